//! The world `grader-plugin` of `schemas/wit`, as the guest sees it. Generated; plugins use the typed twins in
//! `selkie_sdk`. A crate of its own, because the macros that are generated for two worlds would clash in one.

wit_bindgen::generate!({
    path: "../../../schemas/wit/since_v0.2.0",
    world: "grader-plugin",
    pub_export_macro: true,
    export_macro_name: "export",
    default_bindings_module: "selkie_sdk::bindings::grader",
    with: {
        "selkie:plugin/types@0.2.0": selkie_sdk_puzzle::selkie::plugin::types,
        "selkie:plugin/log@0.2.0": selkie_sdk_puzzle::selkie::plugin::log,
        "selkie:plugin/host-model@0.2.0": selkie_sdk_text::selkie::plugin::host_model,
    },
});
