//! The interface in `schemas/wit`, as the guest sees it. Generated; use the typed twins in the crate root.
//! (No documentation of its own: what is generated has none.)

wit_bindgen::generate!({
    path: "../schemas/wit/since_v0.1.0",
    world: "puzzle-plugin",
    pub_export_macro: true,
    export_macro_name: "export",
    default_bindings_module: "selkie_sdk::bindings",
});
