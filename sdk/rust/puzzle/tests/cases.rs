//! What is in `cases.json`, natively; `selkie plugin test` runs the same in the sandbox.

selkie_sdk::test_cases!(starter_puzzle::SelkiePlugin);
