//! The opcodes of pickle protocols 0 to 5, named as in Python's `pickletools`.

macro_rules! opcodes {
    ($($name:ident = $value:expr),* $(,)?) => { $(pub(super) const $name: u8 = $value;)* };
}

opcodes! {
    // Stack.
    MARK = b'(', STOP = b'.', POP = b'0', POP_MARK = b'1', DUP = b'2',
    // Numbers.
    FLOAT = b'F', INT = b'I', BININT = b'J', BININT1 = b'K', LONG = b'L', BININT2 = b'M', BINFLOAT = b'G',
    NONE = b'N', NEWTRUE = 0x88, NEWFALSE = 0x89, LONG1 = 0x8a, LONG4 = 0x8b,
    // Text and bytes.
    STRING = b'S', BINSTRING = b'T', SHORT_BINSTRING = b'U', UNICODE = b'V', BINUNICODE = b'X',
    BINBYTES = b'B', SHORT_BINBYTES = b'C', SHORT_BINUNICODE = 0x8c, BINUNICODE8 = 0x8d, BINBYTES8 = 0x8e,
    BYTEARRAY8 = 0x96,
    // Containers.
    APPEND = b'a', DICT = b'd', EMPTY_DICT = b'}', APPENDS = b'e', LIST = b'l', EMPTY_LIST = b']', SETITEM = b's',
    TUPLE = b't', EMPTY_TUPLE = b')', SETITEMS = b'u', TUPLE1 = 0x85, TUPLE2 = 0x86, TUPLE3 = 0x87,
    EMPTY_SET = 0x8f, ADDITEMS = 0x90, FROZENSET = 0x91,
    // Memo.
    GET = b'g', BINGET = b'h', LONG_BINGET = b'j', PUT = b'p', BINPUT = b'q', LONG_BINPUT = b'r', MEMOIZE = 0x94,
    // Names and calls.
    GLOBAL = b'c', STACK_GLOBAL = 0x93, REDUCE = b'R', BUILD = b'b', INST = b'i', OBJ = b'o', NEWOBJ = 0x81,
    NEWOBJ_EX = 0x92, PERSID = b'P', BINPERSID = b'Q',
    // Framing.
    PROTO = 0x80, FRAME = 0x95,
    // Not read: the extension registry and out-of-band buffers live outside the file.
    EXT1 = 0x82, EXT2 = 0x83, EXT4 = 0x84, NEXT_BUFFER = 0x97, READONLY_BUFFER = 0x98,
}
