//! Docker's wire types, nothing else.
//!
//! Most are those of `bollard-stubs`, which are generated from the Engine API's own description; a few are written here,
//! where the generated ones do not match what Docker's engine and command really send.
#![forbid(unsafe_code)]

pub use bollard_stubs::models::{
    ContainerCreateBody, ContainerCreateResponse, ContainerInspectResponse, ContainerSummary, ContainerUpdateBody,
    DeviceMapping, EndpointSettings, ExecConfig, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, Ipam, Mount,
    MountType, NetworkConnectRequest, NetworkCreateRequest, NetworkDisconnectRequest, NetworkingConfig, PortBinding,
    RestartPolicy, RestartPolicyNameEnum, VolumeCreateRequest,
};

use serde::{Deserialize, Serialize};

/// The newest version of the Engine API that these types describe.
pub const NEWEST: (u32, u32) = (1, 53);
/// The oldest version that is still understood.
pub const OLDEST: (u32, u32) = (1, 24);

/// The body of every answer that says no.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorBody {
    /// What went wrong, one sentence or more.
    pub message: String,
}

/// The answer to what makes something: its id. (The generated type writes `id`, which Docker's clients do not read.)
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdResponse {
    /// The id.
    #[serde(rename = "Id")]
    pub id: String,
}

/// The body of `POST /exec/{id}/start`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExecStart {
    /// Do not attach: answer once the process runs.
    #[serde(rename = "Detach", default)]
    pub detach: Option<bool>,
    /// The caller believes that it has a terminal.
    #[serde(rename = "Tty", default)]
    pub tty: Option<bool>,
    /// Lines and columns of the terminal.
    #[serde(rename = "ConsoleSize", default)]
    pub console_size: Option<(u16, u16)>,
}

/// The answer of `POST /containers/{id}/wait`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitResponse {
    /// The exit code.
    #[serde(rename = "StatusCode")]
    pub status_code: i64,
    /// Why waiting failed; absent when it did not.
    #[serde(rename = "Error", default, skip_serializing_if = "Option::is_none")]
    pub error: Option<WaitError>,
}

/// Why waiting failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitError {
    /// The text.
    #[serde(rename = "Message")]
    pub message: String,
}

/// One change of a container's file system against its image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesystemChange {
    /// The path in the container.
    #[serde(rename = "Path")]
    pub path: String,
    /// 0 changed, 1 added, 2 deleted.
    #[serde(rename = "Kind")]
    pub kind: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_spelled_as_clients_read_them() {
        let text = serde_json::to_string(&IdResponse { id: "ab".into() }).unwrap();
        assert_eq!(text, r#"{"Id":"ab"}"#);
    }

    #[test]
    fn a_wait_without_error_says_nothing_of_errors() {
        let text = serde_json::to_string(&WaitResponse { status_code: 3, error: None }).unwrap();
        assert_eq!(text, r#"{"StatusCode":3}"#);
    }

    #[test]
    fn dockers_exec_start_body_is_read() {
        let body: ExecStart = serde_json::from_str(r#"{"Detach":false,"Tty":true,"ConsoleSize":[40,120]}"#).unwrap();
        assert_eq!(body, ExecStart { detach: Some(false), tty: Some(true), console_size: Some((40, 120)) });
        let body: ExecStart = serde_json::from_str(r#"{"Tty":null,"ConsoleSize":null}"#).unwrap();
        assert_eq!(body, ExecStart::default());
    }
}
