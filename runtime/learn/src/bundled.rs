//! The models that are part of the binary: pup, one for each kind of context.

use selkie_edit::Domain;

use crate::base::{ASKS, ModelFiles, POLICY};

macro_rules! model {
    ($name:literal) => {
        &[
            ("config.json", include_bytes!(concat!("../pup/", $name, "/config.json"))),
            ("selkie.json", include_bytes!(concat!("../pup/", $name, "/selkie.json"))),
            ("tokenizer.json", include_bytes!(concat!("../pup/", $name, "/tokenizer.json"))),
            ("model.safetensors", include_bytes!(concat!("../pup/", $name, "/model.safetensors"))),
        ]
    };
}

macro_rules! adapter {
    ($name:literal, $folder:literal) => {
        &[
            (
                "adapter_config.json",
                include_bytes!(concat!("../pup/", $name, "/", $folder, "/adapter_config.json")),
            ),
            (
                "adapter_model.safetensors",
                include_bytes!(concat!("../pup/", $name, "/", $folder, "/adapter_model.safetensors")),
            ),
        ]
    };
}

/// The bundled model for a kind of context.
pub fn files(domain: Domain) -> ModelFiles {
    match domain {
        Domain::Passage => {
            ModelFiles::from_static("pup-facts", model!("facts"), &[(POLICY, adapter!("facts", "policy"))])
        }
        Domain::Puzzle => ModelFiles::from_static(
            "pup-puzzles",
            model!("puzzles"),
            &[(POLICY, adapter!("puzzles", "policy")), (ASKS, adapter!("puzzles", "asks"))],
        ),
    }
}
