//! Memory, counted over everything that a call allocates.
//!
//! wasmtime's own `StoreLimits` bounds each memory by itself and permits ten thousand of them; this counts all
//! memories and tables of a store together. A request over the limit traps at once: a guest that is told "no"
//! by `memory.grow` aborts with a bare `unreachable`, from which nobody learns what was asked.

use wasmtime::ResourceLimiter;

use crate::limits::{Limits, TABLE_ELEMENT_BYTES};

/// What a store has allocated so far.
#[derive(Debug)]
pub(crate) struct Limiter {
    used: usize,
    max: usize,
    instances: usize,
    memories: usize,
    tables: usize,
}

/// A request for more than is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{asked} bytes of memory asked for, {max} allowed")]
pub(crate) struct MemoryExceeded {
    /// All memories and tables together, had it been granted.
    pub(crate) asked: usize,
    /// The limit.
    pub(crate) max: usize,
}

impl Limiter {
    pub(crate) fn new(limits: &Limits) -> Limiter {
        let &Limits { memory_bytes: max, instances, memories, tables, .. } = limits;
        Limiter { used: 0, max, instances, memories, tables }
    }

    /// Bytes of all memories and tables. They only grow.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    fn grow(&mut self, current: usize, desired: usize) -> wasmtime::Result<bool> {
        let asked = self.used.saturating_add(desired.saturating_sub(current));
        if asked > self.max {
            return Err(MemoryExceeded { asked, max: self.max }.into());
        }
        self.used = asked;
        Ok(true)
    }
}

impl ResourceLimiter for Limiter {
    fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        self.grow(current, desired)
    }

    fn table_growing(
        &mut self,
        current: usize,
        desired: usize,
        _maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let bytes = |elements: usize| elements.saturating_mul(TABLE_ELEMENT_BYTES);
        self.grow(bytes(current), bytes(desired))
    }

    fn instances(&self) -> usize {
        self.instances
    }

    fn tables(&self) -> usize {
        self.tables
    }

    fn memories(&self) -> usize {
        self.memories
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memories_and_tables_draw_from_one_account() {
        let mut limiter = Limiter::new(&Limits { memory_bytes: 1000, ..Limits::default() });
        assert!(matches!(limiter.memory_growing(0, 600, None), Ok(true)));
        assert!(matches!(limiter.table_growing(0, 50, None), Ok(true)), "exactly full");
        let refused = limiter.memory_growing(600, 601, None).expect_err("one byte too many");
        assert_eq!(refused.downcast_ref(), Some(&MemoryExceeded { asked: 1001, max: 1000 }));
        let refused = limiter.table_growing(50, usize::MAX, None).expect_err("no overflow");
        assert!(refused.is::<MemoryExceeded>());
        assert_eq!(limiter.used(), 1000);
    }
}
