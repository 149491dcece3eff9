//! Selkie's built-in puzzle augmentations: every one that SEAL uses, an ordinary plugin with no privilege.
//!
//! A tool is applied to the inputs and the outputs of every example of a task. A task of which any grid would
//! exceed 255 a side is left out. What SEAL's authors (and before them the authors of `marc`) call an axis is
//! named by what changes: axis 0 is `rows`, axis 1 is `columns`.

mod colors;
mod copies;
mod params;
mod steps;
mod transform;

use copies::{PermuteColors, PermuteExamples, Translate};
use steps::{Chain, Concat};
use transform::{Flip, Identity, IncreaseHeight, IncreaseWidth, Reflect, Repeat, Rotate, Transpose, Upscale};

selkie_sdk::register!(
    Identity,
    Rotate,
    Flip,
    Transpose,
    Reflect,
    Upscale,
    IncreaseHeight,
    IncreaseWidth,
    Repeat,
    Chain,
    Concat,
    Translate,
    PermuteColors,
    PermuteExamples,
);

#[cfg(test)]
mod tests;
