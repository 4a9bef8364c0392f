//! Why a socket cannot be connected to, in words that tell what to do.

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Access, access};
use rustix::process::{getegid, geteuid};

/// What `error` of connecting to `path` means.
pub(crate) fn why_not(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::NotFound | ErrorKind::NotADirectory => "absent".to_owned(),
        ErrorKind::ConnectionRefused => "nobody is listening".to_owned(),
        ErrorKind::PermissionDenied => permission_denied(path),
        ErrorKind::WouldBlock => "busy: too many connections wait to be accepted".to_owned(),
        ErrorKind::InvalidInput => {
            format!(
                "too long: {} bytes, a socket's path has at most 107",
                path.as_os_str().len()
            )
        }
        _ => error.to_string(),
    }
}

/// dirtyd closed the connection without a word.
pub(crate) fn refused_at_accept() -> String {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    format!(
        "accepted and closed at once: check allow_uids and allow_gids of dirtyd, \
         you are uid {uid} ({}), gid {gid} ({})",
        user_name(uid),
        group_name(gid)
    )
}

fn permission_denied(path: &Path) -> String {
    if let Ok(file) = fs::metadata(path) {
        let advice = if file.mode() & 0o020 == 0 {
            "its socket_mode lets only its owner in".to_owned()
        } else if file.gid() == 0 {
            "set socket_group to a group of yours".to_owned()
        } else {
            format!("join group {}", group_name(file.gid()))
        };
        return format!("permission denied: {}; {advice}", who_may(&file));
    }
    // Some folder above may not be searched: the outermost such one is the obstacle.
    let mut folders: Vec<&Path> = path.ancestors().skip(1).collect();
    folders.reverse();
    for folder in folders {
        if let (Err(_), Ok(found)) = (access(folder, Access::EXEC_OK), fs::metadata(folder)) {
            return format!(
                "permission denied: folder {} is {}",
                folder.display(),
                who_may(&found)
            );
        }
    }
    format!("permission denied: you are uid {}", geteuid().as_raw())
}

/// `dirty:dirty 0660, you are uid 33`
fn who_may(file: &Metadata) -> String {
    let (user, group, mode) = (
        user_name(file.uid()),
        group_name(file.gid()),
        file.mode() & 0o7777,
    );
    format!(
        "{user}:{group} {mode:04o}, you are uid {}",
        geteuid().as_raw()
    )
}

fn user_name(uid: u32) -> String {
    name_in("/etc/passwd", uid)
}

fn group_name(gid: u32) -> String {
    name_in("/etc/group", gid)
}

/// The name of the entry with this id, as `NAME:...:ID:...`; the number if there is none.
fn name_in(file: &str, id: u32) -> String {
    let id = id.to_string();
    let text = fs::read_to_string(file).unwrap_or_default();
    let mut lines = text.lines().map(|line| line.split(':'));
    let name = lines.find_map(|mut fields| fields.next().filter(|_| fields.nth(1) == Some(&id)));
    name.unwrap_or(&id).to_owned()
}
