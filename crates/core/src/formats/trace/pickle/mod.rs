//! Reads the pickles inside PyTorch files without executing anything.
//!
//! A pickle is a program for a small stack machine that may call any Python function. Here
//! only the opcodes and classes that plain containers, numbers, text and CPU tensors need
//! are understood; everything else is refused by name. What a program may build is bounded.
//!
//! Format: Python's `pickletools`; PyTorch's `torch/serialization.py` and `torch/_utils.py`.

mod machine;
mod opcodes;
mod value;

pub(super) use machine::load;
pub(super) use value::{Element, Heap, Tensor, Value};
