//! The pickle machine: a stack, marks and a memo, over an arena of objects.

use std::collections::HashMap;

use super::callable::Callable;
use super::error::{PickleError, PickleErrorKind as Kind};
use super::graph::{Graph, Id, Object};
use super::opcode as op;
use super::source::Source;

/// Upper bounds on what a pickle may make, beyond the bound that its own length sets.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Objects, memo entries and stack slots, each. The largest published checkpoints need about 100,000.
    pub objects: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { objects: 1_000_000 }
    }
}

pub(super) type Result<T> = std::result::Result<T, PickleError>;

/// Reads one pickle that is all of `bytes`.
///
/// # Errors
/// [`PickleError`] for damage, for anything outside the list of [`Callable`], and for bytes after the end.
pub fn load(bytes: &[u8]) -> Result<Graph<'_>> {
    load_with(bytes, Limits::default())
}

/// As [`load`], with other limits.
///
/// # Errors
/// As [`load`].
pub fn load_with(bytes: &[u8], limits: Limits) -> Result<Graph<'_>> {
    let (graph, end) = run(bytes, limits)?;
    if end != bytes.len() {
        return Err(PickleError { offset: end, kind: Kind::Malformed("there are bytes after its end") });
    }
    Ok(graph)
}

/// Reads one pickle at the start of `bytes` and gives the number of bytes that it takes.
///
/// # Errors
/// As [`load`], except that bytes may follow.
pub fn load_prefix(bytes: &[u8]) -> Result<(Graph<'_>, usize)> {
    run(bytes, Limits::default())
}

fn run(bytes: &[u8], limits: Limits) -> Result<(Graph<'_>, usize)> {
    let mut machine = Machine::new(bytes, limits);
    loop {
        if let Some(root) = machine.step()? {
            let end = machine.source.position();
            return Ok((Graph { objects: machine.objects, root }, end));
        }
    }
}

const NONE: Id = Id(0);
const FALSE: Id = Id(1);
const TRUE: Id = Id(2);

pub(super) struct Machine<'a> {
    pub(super) source: Source<'a>,
    pub(super) objects: Vec<Object<'a>>,
    stack: Vec<Id>,
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
    pub(super) limits: Limits,
    /// Bytes of text made of other text so far.
    pub(super) decoded: usize,
}

impl<'a> Machine<'a> {
    fn new(bytes: &'a [u8], limits: Limits) -> Self {
        Machine {
            source: Source::new(bytes),
            objects: vec![Object::None, Object::Bool(false), Object::Bool(true)],
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            limits,
            decoded: 0,
        }
    }

    /// Carries out one opcode; STOP gives the root.
    fn step(&mut self) -> Result<Option<Id>> {
        let code = self.source.opcode()?;
        match code {
            op::STOP => return self.pop().map(Some),
            op::PROTO => self.protocol()?,
            op::FRAME => self.frame()?,
            op::MARK => self.mark()?,
            op::POP => self.pop_or_unmark()?,
            op::POP_MARK => drop(self.pop_mark()?),
            op::DUP => {
                let top = self.top()?;
                self.push(top)?;
            }
            op::NONE => self.push(NONE)?,
            op::NEWTRUE => self.push(TRUE)?,
            op::NEWFALSE => self.push(FALSE)?,
            op::GET | op::BINGET | op::LONG_BINGET | op::PUT | op::BINPUT | op::LONG_BINPUT | op::MEMOIZE => {
                self.memo_op(code)?;
            }
            op::GLOBAL | op::STACK_GLOBAL | op::PERSID | op::BINPERSID => self.name(code)?,
            op::REDUCE | op::NEWOBJ | op::NEWOBJ_EX | op::INST | op::OBJ => self.call(code)?,
            op::BUILD => self.build()?,
            op::APPEND | op::APPENDS | op::SETITEM | op::SETITEMS | op::ADDITEMS => self.fill(code)?,
            op::EXT1 | op::EXT2 | op::EXT4 => {
                return Err(self.error(Kind::Unsupported("the extension registry")));
            }
            op::NEXT_BUFFER | op::READONLY_BUFFER => {
                return Err(self.error(Kind::Unsupported("buffers outside the file")));
            }
            _ => {
                let object = match self.number(code)? {
                    Some(object) => object,
                    None => match self.text(code)? {
                        Some(object) => object,
                        None => self.container(code)?,
                    },
                };
                self.push_new(object)?;
            }
        }
        Ok(None)
    }

    pub(super) fn error(&self, kind: Kind) -> PickleError {
        self.source.error(kind)
    }

    // ---- the stack ----

    fn push(&mut self, id: Id) -> Result<()> {
        self.check_limit("values at once", self.stack.len())?;
        self.stack.push(id);
        Ok(())
    }

    pub(super) fn push_new(&mut self, object: Object<'a>) -> Result<()> {
        let id = self.add(object)?;
        self.push(id)
    }

    pub(super) fn add(&mut self, object: Object<'a>) -> Result<Id> {
        self.check_limit("objects", self.objects.len())?;
        let id = u32::try_from(self.objects.len()).map_err(|_| self.error(Kind::Malformed("too many objects")))?;
        self.objects.push(object);
        Ok(Id(id))
    }

    fn check_limit(&self, what: &'static str, have: usize) -> Result<()> {
        let limit = self.limits.objects;
        if have < limit { Ok(()) } else { Err(self.error(Kind::Limit { what, limit })) }
    }

    /// Lowest stack slot that the current mark leaves free to take.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    pub(super) fn pop(&mut self) -> Result<Id> {
        if self.stack.len() <= self.floor() {
            return Err(self.error(Kind::StackUnderflow));
        }
        self.stack.pop().ok_or_else(|| self.error(Kind::StackUnderflow))
    }

    pub(super) fn top(&self) -> Result<Id> {
        let above_mark = self.stack.get(self.floor()..).and_then(<[Id]>::last);
        above_mark.copied().ok_or_else(|| self.error(Kind::StackUnderflow))
    }

    fn mark(&mut self) -> Result<()> {
        self.check_limit("marks at once", self.marks.len())?;
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// Everything above the last mark, which goes away.
    pub(super) fn pop_mark(&mut self) -> Result<Vec<Id>> {
        let mark = self.marks.pop().ok_or_else(|| self.error(Kind::StackUnderflow))?;
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    /// POP also removes a mark that nothing stands on.
    fn pop_or_unmark(&mut self) -> Result<()> {
        if self.marks.last() == Some(&self.stack.len()) {
            self.marks.pop();
            return Ok(());
        }
        self.pop().map(drop)
    }

    // ---- framing and memo ----

    fn protocol(&mut self) -> Result<()> {
        match self.source.u8()? {
            0..=5 => Ok(()),
            _ => Err(self.error(Kind::Malformed("its protocol version is none of 0 to 5"))),
        }
    }

    fn frame(&mut self) -> Result<()> {
        let needed = self.source.u64()?;
        let available = (self.source.len() - self.source.position()) as u64;
        if needed <= available { Ok(()) } else { Err(self.error(Kind::Truncated { needed, available })) }
    }

    fn memo_op(&mut self, code: u8) -> Result<()> {
        let key = match code {
            op::MEMOIZE => self.memo.len() as u64,
            op::BINGET | op::BINPUT => self.source.u8()?.into(),
            op::LONG_BINGET | op::LONG_BINPUT => self.source.u32()?.into(),
            _ => self.parse_line::<u64>("a memo number does not parse")?,
        };
        let entry = u32::try_from(key).map_err(|_| self.error(Kind::NoMemo(key)))?;
        if matches!(code, op::GET | op::BINGET | op::LONG_BINGET) {
            let id = self.memo.get(&entry).copied().ok_or_else(|| self.error(Kind::NoMemo(key)))?;
            return self.push(id);
        }
        self.check_limit("memo entries", self.memo.len())?;
        let top = self.top()?;
        self.memo.insert(entry, top);
        Ok(())
    }

    // ---- containers ----

    fn container(&mut self, code: u8) -> Result<Object<'a>> {
        Ok(match code {
            op::EMPTY_DICT => Object::Dict(Vec::new()),
            op::EMPTY_LIST => Object::List(Vec::new()),
            op::EMPTY_TUPLE => Object::Tuple(Vec::new()),
            op::EMPTY_SET => Object::Set(Vec::new()),
            op::LIST => Object::List(self.pop_mark()?),
            op::TUPLE => Object::Tuple(self.pop_mark()?),
            op::FROZENSET => Object::Set(self.pop_mark()?),
            op::DICT => {
                let items = self.pop_mark()?;
                Object::Dict(self.pair_up(&items)?)
            }
            op::TUPLE1 | op::TUPLE2 | op::TUPLE3 => {
                let mut items = Vec::with_capacity(3);
                for _ in op::TUPLE1..=code {
                    items.push(self.pop()?);
                }
                items.reverse();
                Object::Tuple(items)
            }
            unknown => return Err(self.error(Kind::UnknownOpcode(unknown))),
        })
    }

    fn pair_up(&self, items: &[Id]) -> Result<Vec<(Id, Id)>> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(self.error(Kind::Malformed("a dictionary has a key without a value")));
        }
        Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
    }

    /// APPEND(S), ADDITEMS and SETITEM(S): more elements for the container below them.
    fn fill(&mut self, code: u8) -> Result<()> {
        let mut items = match code {
            op::APPEND => vec![self.pop()?],
            op::SETITEM => {
                let value = self.pop()?;
                vec![self.pop()?, value]
            }
            _ => self.pop_mark()?,
        };
        let target = self.top()?;
        let mut pairs = match code {
            op::SETITEM | op::SETITEMS => self.pair_up(&items)?,
            _ => Vec::new(),
        };
        let offset = self.source.opcode_at;
        let wrong =
            |needed, found: &Object| Err(PickleError { offset, kind: Kind::WrongType { needed, found: found.kind() } });
        let Some(object) = self.objects.get_mut(target.0 as usize) else {
            return Err(PickleError { offset, kind: Kind::StackUnderflow });
        };
        match (code, object) {
            (op::APPEND | op::APPENDS, Object::List(list)) => list.append(&mut items),
            (op::ADDITEMS, Object::Set(set)) => set.append(&mut items),
            (op::SETITEM | op::SETITEMS, Object::Dict(dict)) => dict.append(&mut pairs),
            (op::SETITEM | op::SETITEMS, Object::Instance(call)) if call.callable == Callable::Mapping => {
                call.items.append(&mut pairs);
            }
            (op::APPEND | op::APPENDS, other) => return wrong("a list is", other),
            (op::ADDITEMS, other) => return wrong("a set is", other),
            (_, other) => return wrong("a dictionary is", other),
        }
        Ok(())
    }
}
