//! Names and calls: the part of the machine where other readers would run code, and this one takes notes.

use std::borrow::Cow;

use super::callable::Callable;
use super::error::{PickleError, PickleErrorKind as Kind};
use super::graph::{Id, Instance, Object};
use super::machine::{Machine, Result};
use super::opcode as op;

impl<'a> Machine<'a> {
    pub(super) fn name(&mut self, code: u8) -> Result<()> {
        let object = match code {
            op::GLOBAL => {
                Object::Global { module: self.source.line_str()?.into(), name: self.source.line_str()?.into() }
            }
            op::STACK_GLOBAL => {
                let (name, module) = (self.pop()?, self.pop()?);
                Object::Global { module: self.text_of(module)?, name: self.text_of(name)? }
            }
            op::PERSID => {
                let line = self.source.line_str()?;
                let id = self.add(Object::Str(line.into()))?;
                Object::Persistent(id)
            }
            _ => Object::Persistent(self.pop()?),
        };
        self.push_new(object)
    }

    fn text_of(&mut self, id: Id) -> Result<Cow<'a, str>> {
        let text = match self.objects.get(id.0 as usize) {
            Some(Object::Str(text)) => text.clone(),
            other => {
                let found = other.map_or("nothing", Object::kind);
                return Err(self.error(Kind::WrongType { needed: "a text as part of a name is", found }));
            }
        };
        // Text that borrows costs nothing; a copy of decoded text may be made of a few bytes that refer back to it.
        if let Cow::Owned(copy) = &text {
            self.charge(copy.len())?;
        }
        Ok(text)
    }

    /// Counts bytes of text that are made anew of text that is there already, which a pickle may do again and again. No honest one makes
    /// more than it holds, which in memory may be twice as long as in the file.
    fn charge(&mut self, bytes: usize) -> Result<()> {
        let limit = self.source.len().saturating_mul(2);
        self.decoded = self.decoded.saturating_add(bytes);
        if self.decoded > limit {
            return Err(self.error(Kind::Limit { what: "bytes of text made of other text", limit }));
        }
        Ok(())
    }

    pub(super) fn call(&mut self, code: u8) -> Result<()> {
        let (global, args) = match code {
            op::INST => {
                let module = self.source.line_str()?.into();
                let name = self.source.line_str()?.into();
                let args = Object::Tuple(self.pop_mark()?);
                (self.add(Object::Global { module, name })?, self.add(args)?)
            }
            op::OBJ => {
                let mut items = self.pop_mark()?.into_iter();
                let class = items.next().ok_or_else(|| self.error(Kind::StackUnderflow))?;
                (class, self.add(Object::Tuple(items.collect()))?)
            }
            _ => {
                if code == op::NEWOBJ_EX {
                    self.expect_no_keywords()?;
                }
                let args = self.pop()?;
                (self.pop()?, args)
            }
        };
        let callable = self.callable(global)?;
        if code != op::REDUCE && !callable.is_class() {
            return Err(self.forbidden(global));
        }
        let object = self.record(callable, global, args)?;
        self.push_new(object)
    }

    fn expect_no_keywords(&mut self) -> Result<()> {
        let keywords = self.pop()?;
        match self.objects.get(keywords.0 as usize) {
            Some(Object::Dict(pairs)) if pairs.is_empty() => Ok(()),
            _ => Err(self.error(Kind::Unsupported("an object made with keyword arguments"))),
        }
    }

    fn tuple(&self, id: Id) -> Result<&[Id]> {
        match self.objects.get(id.0 as usize) {
            Some(Object::Tuple(items)) => Ok(items),
            other => {
                let found = other.map_or("nothing", Object::kind);
                Err(self.error(Kind::WrongType { needed: "a tuple of arguments is", found }))
            }
        }
    }

    fn callable(&self, id: Id) -> Result<Callable> {
        match self.objects.get(id.0 as usize) {
            Some(Object::Global { module, name }) => Callable::find(module, name).ok_or_else(|| self.forbidden(id)),
            other => Err(self.error(Kind::NotCallable(other.map_or("nothing", Object::kind)))),
        }
    }

    fn forbidden(&self, id: Id) -> PickleError {
        match self.objects.get(id.0 as usize) {
            Some(Object::Global { module, name }) => {
                self.error(Kind::Forbidden { module: shorten(module), name: shorten(name) })
            }
            _ => self.error(Kind::NotCallable("value")),
        }
    }

    /// The object that stands for a listed call.
    fn record(&mut self, callable: Callable, global: Id, args: Id) -> Result<Object<'a>> {
        let listed = self.tuple(args)?;
        match callable {
            Callable::CodecsEncode => {
                let (text, encoding) = (listed.first().copied(), listed.get(1).copied());
                self.encode_latin1(text, encoding)
            }
            Callable::Reconstructor => {
                let Some(&class) = listed.first() else {
                    return Err(self.error(Kind::Malformed("an object has no class")));
                };
                let callable = self.callable(class)?;
                if !callable.is_class() {
                    return Err(self.forbidden(class));
                }
                // A subclass of dict brings its entries as the base's state; other objects bring None.
                let state = listed.get(2).copied();
                let state = state.filter(|id| self.objects.get(id.0 as usize) != Some(&Object::None));
                let args = self.add(Object::Tuple(state.into_iter().collect()))?;
                Ok(instance(callable, class, args))
            }
            _ => Ok(instance(callable, global, args)),
        }
    }

    /// `_codecs.encode(text, "latin1")`: each character is one byte.
    fn encode_latin1(&mut self, text: Option<Id>, encoding: Option<Id>) -> Result<Object<'a>> {
        let as_text = |id: Id| match self.objects.get(id.0 as usize) {
            Some(Object::Str(text)) => Some(text),
            _ => None,
        };
        let (Some(characters), Some("latin1" | "latin-1")) =
            (text.and_then(as_text), encoding.and_then(as_text).map(AsRef::as_ref))
        else {
            return Err(self.error(Kind::Malformed("`_codecs.encode` is not called with a text and \"latin1\"")));
        };
        let characters = characters.clone();
        self.charge(characters.len())?;
        let bytes: Option<Vec<u8>> = characters.chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        let bytes = bytes.ok_or_else(|| self.error(Kind::Malformed("a byte string has characters above 255")))?;
        Ok(Object::Bytes(bytes.into()))
    }

    pub(super) fn build(&mut self) -> Result<()> {
        let state = self.pop()?;
        let target = self.top()?;
        let offset = self.source.opcode_at;
        let kind = match self.objects.get_mut(target.0 as usize) {
            Some(Object::Instance(call)) if call.state.is_some() => Kind::Malformed("an object is given state twice"),
            Some(Object::Instance(call)) if call.callable.takes_state() => {
                call.state = Some(state);
                return Ok(());
            }
            Some(Object::Instance(call)) => {
                let global = call.global;
                return Err(self.forbidden(global));
            }
            other => Kind::WrongType {
                needed: "an object that takes state is",
                found: other.map_or("nothing", |o| o.kind()),
            },
        };
        Err(PickleError { offset, kind })
    }
}

fn instance<'a>(callable: Callable, global: Id, args: Id) -> Object<'a> {
    Object::Instance(Box::new(Instance { callable, global, args, state: None, items: Vec::new() }))
}

/// Names go into messages; a hostile one may be megabytes long.
fn shorten(name: &str) -> String {
    name.chars().filter(|c| !c.is_control()).take(80).collect()
}
