//! What can be told of a data directory from the names in it.

use std::fs;
use std::path::Path;

use corelane_storage::directory::DIRECTORY_FILE;

/// The name of something else in a directory that no broker has made. What a new filesystem holds does not
/// count, and a directory that cannot be read is for its opener to complain about.
pub(super) fn foreign_entry(path: &Path) -> Option<String> {
    let entries = fs::read_dir(path).ok()?;
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let names: Vec<String> = names.filter(|name| name != "lost+found").collect();
    let is_ours = |name: &String| {
        matches!(&**name, "LOCK" | "metadata")
            || name.starts_with(DIRECTORY_FILE)
            || name.starts_with("store-")
    };
    if names.iter().any(is_ours) {
        return None;
    }
    names.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_foreign_if_nothing_in_it_is_ours() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        assert_eq!(foreign_entry(&path.join("missing")), None);
        assert_eq!(foreign_entry(path), None);
        fs::create_dir(path.join("lost+found")).unwrap();
        assert_eq!(foreign_entry(path), None);
        fs::write(path.join("thesis"), "x").unwrap();
        assert_eq!(foreign_entry(path).as_deref(), Some("thesis"));
        fs::write(path.join("corelane.dir.new"), "x").unwrap();
        assert_eq!(foreign_entry(path), None);
    }
}
