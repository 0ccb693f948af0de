//! The stack machine, as far as it is needed.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};

use crate::formats::trace::error::TraceError;
use crate::formats::trace::pickle::opcodes;
use crate::formats::trace::pickle::value::{Class, Heap, Object, Storage, Tensor, Value};
use crate::formats::trace::shorten;

/// Longest text; keys and names of storages are short.
const MAX_TEXT: usize = 64 * 1024;
/// Most dimensions of a tensor.
const MAX_DIMENSIONS: usize = 8;
/// Bytes a pickle may build, estimated from above.
const BUDGET: usize = 160 << 20;
/// What one value and one object are charged.
const VALUE: usize = size_of::<Value>() * 2;
const OBJECT: usize = size_of::<Object>() * 2;

/// Builds what a pickle describes; the value it ends with, and the heap.
pub(crate) fn load(from: impl Read) -> Result<(Value, Heap), TraceError> {
    let mut machine = Machine {
        from: BufReader::new(from),
        at: 0,
        stack: Vec::new(),
        marks: Vec::new(),
        memo: BTreeMap::new(),
        heap: Heap::default(),
        left: BUDGET,
    };
    loop {
        let opcode = machine.bytes::<1>()?[0];
        if opcode == b'.' {
            let value = machine.pop()?;
            return Ok((value, machine.heap));
        }
        machine.step(opcode)?;
    }
}

struct Machine<R> {
    from: BufReader<R>,
    /// Bytes read so far.
    at: u64,
    stack: Vec<Value>,
    /// Heights of the stack at each mark.
    marks: Vec<usize>,
    memo: BTreeMap<u32, Value>,
    heap: Heap,
    /// Bytes that may still be built.
    left: usize,
}

impl<R: Read> Machine<R> {
    fn step(&mut self, opcode: u8) -> Result<(), TraceError> {
        match opcode {
            0x80 => self.protocol(),
            0x95 => self.bytes::<8>().map(drop),
            b'(' => self.mark(),
            b'N' => self.push(Value::None),
            0x88 => self.push(Value::Bool(true)),
            0x89 => self.push(Value::Bool(false)),
            b'J' => self.bytes().and_then(|b| self.push_int(i32::from_le_bytes(b))),
            b'K' => self.bytes().and_then(|b| self.push_int(u8::from_le_bytes(b))),
            b'M' => self.bytes().and_then(|b| self.push_int(u16::from_le_bytes(b))),
            0x8a => self.long(),
            b'G' => self.bytes().and_then(|b| self.push(Value::Float(f64::from_be_bytes(b)))),
            b'X' => self.bytes().and_then(|b| self.text(u32::from_le_bytes(b))),
            0x8c => self.bytes::<1>().and_then(|b| self.text(u32::from(b[0]))),
            b')' => self.push_object(Object::Tuple(Vec::new())),
            b']' => self.push_object(Object::List(Vec::new())),
            b'}' => self.push_object(Object::Dict(Vec::new())),
            b't' => self.marked().and_then(|items| self.push_object(Object::Tuple(items))),
            0x85..=0x87 => self.short_tuple(usize::from(opcode - 0x84)),
            b'a' => self.pop().and_then(|item| self.append(vec![item])),
            b'e' => self.marked().and_then(|items| self.append(items)),
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set(&[key, value])
            }
            b'u' => self.marked().and_then(|items| self.set(&items)),
            b'q' => self.bytes::<1>().and_then(|b| self.put(u32::from(b[0]))),
            b'r' => self.bytes().and_then(|b| self.put(u32::from_le_bytes(b))),
            0x94 => self.put(u32::try_from(self.memo.len()).unwrap_or(u32::MAX)),
            b'h' => self.bytes::<1>().and_then(|b| self.get(u32::from(b[0]))),
            b'j' => self.bytes().and_then(|b| self.get(u32::from_le_bytes(b))),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.class(&module, &name)
            }
            0x93 => {
                let (name, module) = (self.pop_text()?, self.pop_text()?);
                self.class(&module, &name)
            }
            b'Q' => self.storage(),
            b'R' => self.reduce(),
            other => Err(self.refused(other)),
        }
    }

    fn bad(&self, what: impl std::fmt::Display) -> TraceError {
        TraceError::unreadable(format_args!("the pickle at byte {}: {what}", self.at))
    }

    fn refused(&self, opcode: u8) -> TraceError {
        match opcodes::name(opcode) {
            Some(name) => self.bad(format_args!(
                "opcode {name} is refused; only plain containers, numbers, text and tensors are read"
            )),
            None => self.bad(format_args!("{opcode:#04x} is no opcode")),
        }
    }

    fn spend(&mut self, bytes: usize) -> Result<(), TraceError> {
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(TraceError::TooLarge {
                what: "what the pickle builds",
                limit_bytes: BUDGET as u64,
            }),
        }
    }

    fn bytes<const N: usize>(&mut self) -> Result<[u8; N], TraceError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    fn fill(&mut self, to: &mut [u8]) -> Result<(), TraceError> {
        self.from.read_exact(to).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.bad("it ends too early"),
            _ => self.bad(error),
        })?;
        self.at += to.len() as u64;
        Ok(())
    }

    fn protocol(&mut self) -> Result<(), TraceError> {
        match self.bytes::<1>()?[0] {
            2..=5 => Ok(()),
            version => Err(self.bad(format_args!("protocol {version}; 2 to 5 are read"))),
        }
    }

    fn push(&mut self, value: Value) -> Result<(), TraceError> {
        self.spend(VALUE)?;
        self.stack.push(value);
        Ok(())
    }

    fn push_int(&mut self, value: impl Into<i64>) -> Result<(), TraceError> {
        self.push(Value::Int(value.into()))
    }

    fn push_object(&mut self, object: Object) -> Result<(), TraceError> {
        self.spend(OBJECT)?;
        self.heap.objects.push(object);
        self.push(Value::Object(self.heap.objects.len() - 1))
    }

    fn pop(&mut self) -> Result<Value, TraceError> {
        let floor = self.marks.last().copied().unwrap_or(0);
        if self.stack.len() <= floor {
            return Err(self.bad("the stack is empty"));
        }
        self.stack.pop().ok_or_else(|| self.bad("the stack is empty"))
    }

    fn pop_text(&mut self) -> Result<String, TraceError> {
        let value = self.pop()?;
        let text = self.heap.text(value).map(str::to_owned);
        text.ok_or_else(|| self.bad("a name that is no text"))
    }

    fn mark(&mut self) -> Result<(), TraceError> {
        self.spend(VALUE)?;
        self.marks.push(self.stack.len());
        Ok(())
    }

    /// What was pushed since the last mark.
    fn marked(&mut self) -> Result<Vec<Value>, TraceError> {
        match self.marks.pop() {
            Some(height) if height <= self.stack.len() => Ok(self.stack.split_off(height)),
            _ => Err(self.bad("there is no mark")),
        }
    }

    fn short_tuple(&mut self, n: usize) -> Result<(), TraceError> {
        let mut items = Vec::with_capacity(n);
        for _ in 0..n {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push_object(Object::Tuple(items))
    }

    /// An integer of up to eight bytes, lowest first.
    fn long(&mut self) -> Result<(), TraceError> {
        let length = usize::from(self.bytes::<1>()?[0]);
        let mut digits = [0_u8; 8];
        if length > digits.len() {
            return Err(self.bad(format_args!("an integer of {length} bytes")));
        }
        self.fill(&mut digits[..length])?;
        if length > 0 && digits[length - 1] >= 0x80 {
            digits[length..].fill(0xff);
        }
        self.push_int(i64::from_le_bytes(digits))
    }

    fn text(&mut self, length: u32) -> Result<(), TraceError> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        if length > MAX_TEXT {
            return Err(self.bad(format_args!("a text of {length} bytes; {MAX_TEXT} are read")));
        }
        self.spend(length)?;
        let mut bytes = vec![0; length];
        self.fill(&mut bytes)?;
        let text = String::from_utf8(bytes).map_err(|_| self.bad("a text that is not UTF-8"))?;
        self.push_object(Object::Text(text.into_boxed_str()))
    }

    /// A name that ends with its line.
    fn line(&mut self) -> Result<String, TraceError> {
        let mut line = Vec::new();
        loop {
            match self.bytes::<1>()?[0] {
                b'\n' => break,
                byte if line.len() < 256 => line.push(byte),
                _ => return Err(self.bad("a name that does not end")),
            }
        }
        String::from_utf8(line).map_err(|_| self.bad("a name that is not UTF-8"))
    }

    fn append(&mut self, items: Vec<Value>) -> Result<(), TraceError> {
        match self.top()? {
            Object::List(list) => {
                list.extend(items);
                Ok(())
            }
            _ => Err(self.bad("items for something that is no list")),
        }
    }

    fn set(&mut self, items: &[Value]) -> Result<(), TraceError> {
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err(self.bad("a key without a value"));
        };
        self.spend(items.len() * VALUE)?;
        match self.top()? {
            Object::Dict(entries) => {
                entries.extend(pairs.iter().map(|[key, value]| (*key, *value)));
                Ok(())
            }
            _ => Err(self.bad("entries for something that is no dictionary")),
        }
    }

    /// The object on top of the stack.
    fn top(&mut self) -> Result<&mut Object, TraceError> {
        let missing = TraceError::unreadable(format_args!(
            "the pickle at byte {}: there is nothing to add to",
            self.at
        ));
        match self.stack.last() {
            Some(Value::Object(index)) => self.heap.objects.get_mut(*index).ok_or(missing),
            _ => Err(missing),
        }
    }

    fn put(&mut self, index: u32) -> Result<(), TraceError> {
        self.spend(2 * VALUE)?;
        let Some(value) = self.stack.last() else {
            return Err(self.bad("there is nothing to remember"));
        };
        self.memo.insert(index, *value);
        Ok(())
    }

    fn get(&mut self, index: u32) -> Result<(), TraceError> {
        match self.memo.get(&index) {
            Some(value) => self.push(*value),
            None => Err(self.bad(format_args!("nothing was remembered as {index}"))),
        }
    }

    fn class(&mut self, module: &str, name: &str) -> Result<(), TraceError> {
        match Class::named(module, name) {
            Some(class) => self.push_object(Object::Class(class)),
            None => Err(self.bad(format_args!(
                "`{}` is refused; only plain containers, numbers, text and tensors are read",
                shorten(&format!("{module}.{name}"))
            ))),
        }
    }

    /// `("storage", class, key, location, elements)`: bytes beside the pickle.
    fn storage(&mut self) -> Result<(), TraceError> {
        let value = self.pop()?;
        let heap = &self.heap;
        let storage = heap.items(value).and_then(|items| {
            let &[tag, class, key, _location, n] = items else { return None };
            let (Some("storage"), Value::Int(n)) = (heap.text(tag), n) else { return None };
            let Object::Class(Class::Storage(element)) = heap.object(class)? else { return None };
            let key = heap.text(key).filter(|key| key.bytes().all(|b| b.is_ascii_digit()))?;
            let n_elements = u64::try_from(n).ok()?;
            Some(Storage { element: *element, key: key.into(), n_elements })
        });
        match storage {
            Some(storage) => self.push_object(Object::Storage(storage)),
            None => Err(self.bad("a persistent id that is no storage of a tensor")),
        }
    }

    /// Calls one of the known functions.
    fn reduce(&mut self) -> Result<(), TraceError> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let made = match (self.heap.object(function), self.heap.items(arguments)) {
            (Some(Object::Class(Class::OrderedDict)), Some([])) => Some(Object::Dict(Vec::new())),
            (Some(Object::Class(Class::RebuildTensor)), Some(items)) => {
                self.tensor(items).map(Object::Tensor)
            }
            _ => None,
        };
        match made {
            Some(object) => self.push_object(object),
            None => Err(self.bad("a call of something that may not be called, or not like this")),
        }
    }

    /// `(storage, offset, size, stride, requires_grad, hooks, …)`
    fn tensor(&self, arguments: &[Value]) -> Option<Tensor> {
        let &[storage, Value::Int(offset), size, stride, ..] = arguments else { return None };
        let Object::Storage(storage) = self.heap.object(storage)? else { return None };
        let numbers = |value: Value| -> Option<Vec<u64>> {
            let items = self.heap.items(value)?;
            let number = |item: &Value| match item {
                Value::Int(n) => u64::try_from(*n).ok(),
                _ => None,
            };
            (items.len() <= MAX_DIMENSIONS).then(|| items.iter().map(number).collect())?
        };
        let (size, stride) = (numbers(size)?, numbers(stride)?);
        (size.len() == stride.len()).then_some(Tensor {
            element: storage.element,
            key: storage.key.clone(),
            n_stored: storage.n_elements,
            offset: u64::try_from(offset).ok()?,
            size,
            stride,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(program: &[u8]) -> String {
        match load(program) {
            Err(error) => error.to_string(),
            Ok((value, _)) => panic!("{value:?}"),
        }
    }

    #[test]
    fn containers_numbers_and_text_are_built() {
        // {"a": [1, -2, 300, 2.5, None, True]} in protocol 2
        let program =
            b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01]q\x02(K\x01J\xfe\xff\xff\xffM\x2c\x01\
                        G\x40\x04\x00\x00\x00\x00\x00\x00N\x88es.";
        let (value, heap) = load(&program[..]).unwrap();
        let items = heap.items(heap.get(value, "a").unwrap()).unwrap();
        let wanted = [Value::Int(1), Value::Int(-2), Value::Int(300), Value::Float(2.5)];
        assert_eq!(items[..4], wanted);
        assert_eq!(items[4..], [Value::None, Value::Bool(true)]);
        assert_eq!(load(&b"\x80\x02\x8a\x03\xff\xff\xfe."[..]).unwrap().0, Value::Int(-65_537));
    }

    #[test]
    fn nothing_is_called_but_what_tensors_need() {
        let system = b"\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R.";
        assert!(said(system).contains("`os.system` is refused"), "{}", said(system));
        let stacked = b"\x80\x04\x8c\x08builtins\x8c\x04eval\x93)R.";
        assert!(said(stacked).contains("`builtins.eval` is refused"));
        let loads = b"\x80\x02ctorch.storage\n_load_from_bytes\n)R.";
        assert!(said(loads).contains("`torch.storage._load_from_bytes` is refused"));
        let built = b"\x80\x02ccollections\nOrderedDict\n)R}b.";
        assert!(said(built).contains("opcode BUILD is refused"), "{}", said(built));
        assert!(said(b"\x80\x02(ios\nsystem\n.").contains("opcode INST is refused"));
        assert!(said(b"\x80\x02)\x81.").contains("opcode NEWOBJ is refused"));
        let misused = b"\x80\x02ccollections\nOrderedDict\nK\x01\x85R.";
        assert!(said(misused).contains("may not be called"));
    }

    #[test]
    fn broken_programs_end_with_an_error() {
        for program in [
            &b""[..],
            b".",
            b"\x80\x02",
            b"\x80\x09N.",
            b"e.",
            b"(0.",
            b"\x80\x02h\x07.",
            b"\x80\x02]K\x01K\x02K\x03u.",
            b"\x80\x02X\xff\xff\xff\xffa.",
            b"\x80\x02\x8a\xff.",
            b"\x80\x02N)R.",
            b"\x80\x02NQ.",
            b"\x80\x02\xee.",
            b"\x80\x02(K\x01a.",
        ] {
            assert!(load(program).is_err(), "{program:?}");
        }
    }

    #[test]
    fn what_is_built_is_bounded() {
        let endless = b"(".iter().copied().cycle().take(100 << 20).collect::<Vec<u8>>();
        assert!(said(&endless).contains("larger than the limit"), "{}", said(&endless));
        let lists = vec![b']'; 8 << 20];
        assert!(said(&lists).contains("larger than the limit"));
    }
}
