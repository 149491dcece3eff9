//! Native tests of a plugin: its cases, and a stand-in for the host's model.

mod cases;
pub(crate) mod host_model;
mod read;

#[cfg(test)]
pub(crate) use cases::check_cases;
pub use cases::run_cases;
pub use host_model::{HostModel, with_host_model};

/// One line of a plugin's `tests/cases.rs`: runs `cases.json`, in the plugin's folder, natively. `selkie plugin
/// test` runs the same file in the sandbox.
///
/// ```text
/// selkie_sdk::test_cases!(my_plugin::SelkiePlugin);
/// ```
#[macro_export]
macro_rules! test_cases {
    ($plugin:path) => {
        #[test]
        fn every_case_gives_what_it_says() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/cases.json");
            if let Err(report) = $crate::testing::run_cases(&<$plugin>::PLUGIN, path) {
                panic!("{report}");
            }
        }
    };
}
