//! What is in `cases.json`, natively.

selkie_sdk::test_cases!(text::SelkiePlugin);
