//! Which bytes of a piece of memory were written.
//!
//! Invariant: one bit a byte.

/// A bit a byte.
#[derive(Clone, Debug, Default)]
pub(crate) struct Written {
    bits: Vec<u64>,
}

impl Written {
    pub fn new(bytes: usize) -> Self {
        Written { bits: vec![0; bytes.div_ceil(64)] }
    }

    /// Marks bytes as written; those beyond the end are passed over.
    pub fn set(&mut self, start: usize, bytes: usize) {
        let end = (start + bytes).min(self.bits.len() * 64);
        let mut at = start;
        while at < end {
            let (word, bit) = (at / 64, at % 64);
            let count = (64 - bit).min(end - at);
            let mask = if count == 64 { u64::MAX } else { ((1 << count) - 1) << bit };
            self.bits[word] |= mask;
            at += count;
        }
    }

    /// The first of some bytes that was not written.
    pub fn first_missing(&self, start: usize, bytes: usize) -> Option<usize> {
        let (word, bit) = (start / 64, start % 64);
        if bytes <= 64 - bit && bytes < 64 {
            let mask = ((1u64 << bytes) - 1) << bit;
            let missing = !self.bits.get(word)? & mask;
            if missing == 0 {
                return None;
            }
            return Some(word * 64 + missing.trailing_zeros() as usize);
        }
        (start..start + bytes)
            .find(|at| self.bits.get(at / 64).is_none_or(|w| w >> (at % 64) & 1 == 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_across_words() {
        let mut written = Written::new(200);
        written.set(60, 70);
        assert_eq!(written.first_missing(60, 70), None);
        assert_eq!(written.first_missing(59, 4), Some(59));
        assert_eq!(written.first_missing(120, 16), Some(130));
        assert_eq!(written.first_missing(129, 1), None);
    }
}
