//! Objects: what the elements of tensors of strings and of lists stand for.
//!
//! Invariant: an element of such a tensor is a handle into the table that goes with the tensor, so
//! that whatever moves elements moves handles; equal strings of one table have equal handles.
//! Handle 0 is the empty string, which is what a tensor of zeros holds.

use crate::{DType, Tensor, TensorError};
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, RwLock};

/// A table of objects. It only grows; what is in it lives as long as a tensor that refers to it.
#[derive(Default)]
pub struct Objects {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    /// From handle 1 on.
    entries: Vec<Object>,
    strings: HashMap<Arc<str>, u64>,
    bytes: u64,
}

#[derive(Clone)]
enum Object {
    String(Arc<str>),
    List(Arc<[Tensor]>),
}

impl Objects {
    /// Bytes of the objects.
    pub fn bytes(&self) -> u64 {
        self.read(|state| state.bytes)
    }

    fn read<T>(&self, f: impl FnOnce(&State) -> T) -> T {
        // A panic elsewhere leaves a table that is complete: entries are pushed whole.
        f(&self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    fn write<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner))
    }

    /// The handle of a string.
    pub fn string(&self, text: &str) -> u64 {
        if text.is_empty() {
            return 0;
        }
        if let Some(handle) = self.read(|state| state.strings.get(text).copied()) {
            return handle;
        }
        self.write(|state| {
            if let Some(&handle) = state.strings.get(text) {
                return handle;
            }
            let text: Arc<str> = text.into();
            state.bytes += text.len() as u64 + size_of::<Object>() as u64;
            state.entries.push(Object::String(text.clone()));
            let handle = state.entries.len() as u64;
            state.strings.insert(text, handle);
            handle
        })
    }

    /// A table of these strings, from handle 1 on.
    pub fn of_strings(strings: &[String]) -> Self {
        let objects = Objects::default();
        objects.write(|state| {
            for text in strings {
                let text: Arc<str> = text.as_str().into();
                state.entries.push(Object::String(text.clone()));
                let handle = state.entries.len() as u64;
                state.strings.entry(text).or_insert(handle);
            }
        });
        objects
    }

    /// The strings of a table that holds nothing else, from handle 1 on.
    pub fn strings(&self) -> Vec<String> {
        let text = |object: &Object| match object {
            Object::String(text) => text.to_string(),
            Object::List(_) => String::new(),
        };
        self.read(|state| state.entries.iter().map(text).collect())
    }

    /// The handle of a new list. Elements that hold handles must be of this table.
    pub fn list(&self, elements: Vec<Tensor>) -> u64 {
        let size = |tensor: &Tensor| tensor.bytes().len() + size_of::<Tensor>();
        let bytes: usize = elements.iter().map(size).sum();
        self.write(|state| {
            state.bytes = state.bytes.saturating_add(bytes as u64 + size_of::<Object>() as u64);
            state.entries.push(Object::List(elements.into()));
            state.entries.len() as u64
        })
    }

    /// The string of a handle; `None` if it is of none.
    pub fn string_of(&self, handle: u64) -> Option<Arc<str>> {
        match self.get(handle) {
            None if handle == 0 => Some(Arc::from("")),
            Some(Object::String(text)) => Some(text),
            _ => None,
        }
    }

    /// The elements of the list of a handle; `None` if it is of none.
    pub fn list_of(&self, handle: u64) -> Option<Arc<[Tensor]>> {
        match self.get(handle) {
            Some(Object::List(elements)) => Some(elements),
            _ => None,
        }
    }

    fn get(&self, handle: u64) -> Option<Object> {
        let place = usize::try_from(handle.checked_sub(1)?).ok()?;
        self.read(|state| state.entries.get(place).cloned())
    }

    /// The tensor with its handles those of this table.
    pub fn adopt(self: &Arc<Self>, tensor: &Tensor) -> Result<Tensor, TensorError> {
        if !tensor.dtype().is_handle() || tensor.objects().is_some_and(|o| Arc::ptr_eq(o, self)) {
            return Ok(tensor.clone());
        }
        let handles: Vec<u64> = match tensor.dtype() {
            DType::String => tensor.strings()?.iter().map(|text| self.string(text)).collect(),
            _ => {
                let lists = tensor.lists()?;
                let adopted = lists.iter().map(|list| {
                    let elements = list.iter().map(|element| self.adopt(element));
                    Ok(self.list(elements.collect::<Result<_, TensorError>>()?))
                });
                adopted.collect::<Result<_, TensorError>>()?
            }
        };
        self.holding(tensor.dtype(), tensor.sizes().to_vec(), &handles)
    }

    /// A tensor of handles of this table.
    pub fn holding(
        self: &Arc<Self>,
        dtype: DType,
        sizes: Vec<usize>,
        handles: &[u64],
    ) -> Result<Tensor, TensorError> {
        let bytes: Vec<u8> = handles.iter().flat_map(|handle| handle.to_le_bytes()).collect();
        Ok(Tensor::from_bytes(dtype, sizes, &bytes)?.with_objects(self))
    }
}

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.read(|state| write!(f, "{} objects", state.entries.len()))
    }
}

impl Tensor {
    /// A tensor of strings, with a table of its own.
    pub fn from_strings<T: AsRef<str>>(
        sizes: Vec<usize>,
        strings: &[T],
    ) -> Result<Self, TensorError> {
        let objects = Arc::new(Objects::default());
        let handles: Vec<u64> = strings.iter().map(|text| objects.string(text.as_ref())).collect();
        objects.holding(DType::String, sizes, &handles)
    }

    /// A rank-0 tensor that holds a list of this type, with a table of its own.
    pub fn from_list(dtype: DType, elements: &[Tensor]) -> Result<Self, TensorError> {
        let objects = Arc::new(Objects::default());
        let elements = elements.iter().map(|element| objects.adopt(element));
        let handle = objects.list(elements.collect::<Result<_, _>>()?);
        objects.holding(dtype, Vec::new(), &[handle])
    }

    /// The strings of a string tensor in row-major order.
    pub fn strings(&self) -> Result<Vec<Arc<str>>, TensorError> {
        self.expect_type(DType::String)?;
        let get = |objects: &Objects, handle| objects.string_of(handle);
        self.handles().map(|handle| self.object(handle, get)).collect()
    }

    /// The lists of a list tensor in row-major order.
    pub fn lists(&self) -> Result<Vec<Arc<[Tensor]>>, TensorError> {
        if !self.dtype().is_list() {
            return Err(TensorError::Type { expected: DType::Sequence, actual: self.dtype() });
        }
        let get = |objects: &Objects, handle| objects.list_of(handle);
        self.handles().map(|handle| self.object(handle, get)).collect()
    }

    /// The elements of the list that a rank-0 tensor holds.
    pub fn list(&self) -> Result<Arc<[Tensor]>, TensorError> {
        let mut lists = self.lists()?;
        match (lists.pop(), lists.is_empty()) {
            (Some(list), true) => Ok(list),
            _ => Err(TensorError::Handle),
        }
    }

    fn handles(&self) -> impl Iterator<Item = u64> {
        let chunks = self.bytes().chunks_exact(8);
        chunks.map(|bytes| bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte)))
    }

    fn object<T>(
        &self,
        handle: u64,
        get: impl Fn(&Objects, u64) -> Option<T>,
    ) -> Result<T, TensorError> {
        let none = Objects::default();
        let objects = self.objects().map_or(&none, Arc::as_ref);
        get(objects, handle).ok_or(TensorError::Handle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_shared_and_move_between_tables() {
        let tensor = Tensor::from_strings(vec![3], &["a", "", "a"]).unwrap();
        assert_eq!(tensor.bytes()[..8], tensor.bytes()[16..]);
        let other = Arc::new(Objects::default());
        other.string("b");
        let adopted = other.adopt(&tensor).unwrap();
        assert_ne!(adopted.bytes(), tensor.bytes());
        assert_eq!(adopted.strings().unwrap(), tensor.strings().unwrap());
        assert_eq!(adopted, tensor);
    }

    #[test]
    fn lists_nest() {
        let text = Tensor::from_strings(vec![1], &["a"]).unwrap();
        let inner = Tensor::from_list(DType::Optional, std::slice::from_ref(&text)).unwrap();
        let outer = Tensor::from_list(DType::Sequence, &[inner.clone(), inner]).unwrap();
        let lists = outer.list().unwrap();
        assert_eq!(lists[1].list().unwrap()[0], text);
        assert_ne!(outer, Tensor::from_list(DType::Sequence, &[]).unwrap());
    }

    #[test]
    fn handles_of_nothing_are_errors() {
        let zeros = Tensor::zeros(DType::String, vec![2]).unwrap();
        assert_eq!(zeros.strings().unwrap(), [Arc::from(""), Arc::from("")]);
        let wrong = Tensor::from_bytes(DType::String, vec![1], &[9; 8]).unwrap();
        assert_eq!(wrong.strings(), Err(TensorError::Handle));
        assert_eq!(Tensor::zeros(DType::Map, vec![]).unwrap().list(), Err(TensorError::Handle));
    }
}
