//! Hostile plugins: each limit of the host is met by a guest that breaks it, at every entry point, gives its own
//! typed error, and leaves the host serving. `ATTACKS.md` lists them.

mod attacks;
mod calls;
mod doctor;
mod entries;
mod floods;
mod graders;
mod guest;
mod laws;
mod limits;
mod loading;
mod model;
mod published;
mod starved;
mod wasi;
