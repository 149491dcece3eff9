//! Tools that broke a law and are not called again.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use super::BrokenLaw;

/// The tools of one host that are not called any more, each with the first law that it broke. Any thread may ask
/// and add. A [`BrokenLaw`] serialises, so that it can be kept by the digest of the plugin.
#[derive(Debug, Default)]
pub struct Quarantine(RwLock<BTreeMap<String, BrokenLaw>>);

impl Quarantine {
    /// Ends the use of a tool, by its full name. Of two broken laws the first is kept.
    pub fn put(&self, tool: &str, broken: BrokenLaw) {
        let mut tools = self.0.write().unwrap_or_else(PoisonError::into_inner);
        tools.entry(tool.into()).or_insert(broken);
    }

    /// The law that a tool broke, if it did.
    pub fn of(&self, tool: &str) -> Option<BrokenLaw> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(tool).cloned()
    }

    /// All of them, by the tool's name.
    pub fn all(&self) -> Vec<BrokenLaw> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_dies_with_the_lock_takes_nobody_with_it() {
        let quarantine = Quarantine::default();
        let died = std::thread::scope(|scope| {
            let hold = || {
                let _held = quarantine.0.write().expect("a lock");
                panic!("a fault elsewhere");
            };
            scope.spawn(hold).join()
        });
        assert_eq!(died.expect_err("a panic").downcast_ref(), Some(&"a fault elsewhere"));
        assert_eq!(quarantine.of("demo.tool"), None);
    }
}
