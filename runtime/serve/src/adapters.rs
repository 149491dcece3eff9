//! The adapters that requests may name: listing them, and loading PEFT folders as vLLM does.

use std::path::{Path, PathBuf};

use axum::Json;
use axum::extract::State;
use schemars::JsonSchema;
use selkie_engine::live::AdapterCard;
use serde::{Deserialize, Serialize};

use crate::api_error::{ApiError, Body};
use crate::app::App;

/// The adapters.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AdapterList {
    /// `list`.
    object: &'static str,
    /// The base model, the generations (newest first), and what was loaded.
    data: Vec<AdapterCard>,
}

/// A PEFT folder to be loaded.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LoadRequest {
    /// The name that requests will use.
    lora_name: String,
    /// The folder, within the operator's folder of adapters.
    lora_path: PathBuf,
}

/// An adapter to be forgotten.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UnloadRequest {
    /// The name that it was loaded under.
    lora_name: String,
}

/// `GET /v1/adapters`.
pub(crate) async fn list(State(app): State<App>) -> Result<Json<AdapterList>, ApiError> {
    app.blocking(|app| Ok(Json(AdapterList { object: "list", data: app.live().adapters()? }))).await
}

/// `POST /v1/load_lora_adapter`.
pub(crate) async fn load(
    State(app): State<App>,
    Body(request): Body<LoadRequest>,
) -> Result<Json<AdapterCard>, ApiError> {
    app.blocking(move |app| {
        let folder = within(app.adapters_folder(), &request.lora_path)?;
        Ok(Json(app.live().load_adapter(&request.lora_name, &folder)?))
    })
    .await
}

/// `POST /v1/unload_lora_adapter`.
pub(crate) async fn unload(
    State(app): State<App>,
    Body(request): Body<UnloadRequest>,
) -> Result<Json<AdapterList>, ApiError> {
    app.blocking(move |app| {
        app.live().unload_adapter(&request.lora_name)?;
        Ok(Json(AdapterList { object: "list", data: app.live().adapters()? }))
    })
    .await
}

/// A folder within the operator's, whatever `..` and links say. What is outside and what is not there get the same
/// answer, so that nobody can look around.
fn within(root: Option<&Path>, path: &Path) -> Result<PathBuf, ApiError> {
    let Some(root) = root else {
        let message =
            "no adapters can be loaded: the server was started without a folder of adapters (--adapters)";
        return Err(ApiError::forbidden(message).code("no_adapters_folder"));
    };
    let found = root.join(path).canonicalize().ok();
    found.filter(|found| found != root && found.starts_with(root) && found.is_dir()).ok_or_else(|| {
        let message = format!("`{}` is no folder in the server's folder of adapters", path.display());
        ApiError::field("lora_path", message).code("no_such_folder")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_within_the_operators_are_found() {
        let home = tempfile::tempdir().expect("a folder");
        let root = home.path().join("adapters");
        let outside = home.path().join("outside");
        for folder in [&root.join("team/poetry"), &outside] {
            std::fs::create_dir_all(folder).expect("a folder");
        }
        std::fs::write(root.join("file"), "").expect("a file");
        #[cfg(unix)]
        std::os::unix::fs::symlink(&outside, root.join("link")).expect("a link");
        let root = root.canonicalize().expect("its path");
        let poetry = root.join("team/poetry");
        let absolute = poetry.display().to_string();
        let absolute_outside = outside.display().to_string();
        for (path, found) in [
            ("team/poetry", Some(&poetry)),
            ("team/../team/poetry", Some(&poetry)),
            (absolute.as_str(), Some(&poetry)),
            ("", None),
            (".", None),
            ("..", None),
            ("../outside", None),
            ("team/../../outside", None),
            ("link", None),
            ("file", None),
            ("none", None),
            ("%2e%2e/outside", None),
            ("team\0/poetry", None),
            (absolute_outside.as_str(), None),
            ("/", None),
        ] {
            let within = within(Some(&root), Path::new(path));
            assert_eq!(within.as_ref().ok(), found, "{path}");
        }
        let refused = within(None, Path::new("team/poetry")).expect_err("no folder");
        assert_eq!(refused.body().error.code, Some("no_adapters_folder"));
    }
}
