//! The models that are part of the binary: pup, one for each kind of context.

use selkie_edit::Domain;

use crate::base::ModelFiles;

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

macro_rules! policy {
    ($name:literal) => {
        &[
            ("adapter_config.json", include_bytes!(concat!("../pup/", $name, "/policy/adapter_config.json"))),
            (
                "adapter_model.safetensors",
                include_bytes!(concat!("../pup/", $name, "/policy/adapter_model.safetensors")),
            ),
        ]
    };
}

/// The bundled model for a kind of context.
pub fn files(domain: Domain) -> ModelFiles {
    match domain {
        Domain::Passage => ModelFiles::from_static("pup-facts", model!("facts"), policy!("facts")),
        Domain::Puzzle => ModelFiles::from_static("pup-puzzles", model!("puzzles"), policy!("puzzles")),
    }
}
