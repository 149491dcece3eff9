//! The interface in `schemas/wit`, as the host sees it. Generated.

wasmtime::component::bindgen!({
    path: "../../schemas/wit/since_v0.1.0",
    world: "puzzle-plugin",
});
