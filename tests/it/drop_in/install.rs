//! Copies of the examples and of the clients that they use, with the packages that they pin, below `target`.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::Mutex;

/// For a program, and for an installation over a slow connection.
const TIMEOUT: Duration = Duration::from_secs(120);

const VENV: &[&str] = &["python3", "-m", "venv", "--clear", "venv"];
const PYTHON: [&[&str]; 2] = [VENV, &pip_install("requirements.txt")];
const PYTHON_CLIENT: [&[&str]; 2] = [VENV, &pip_install("requirements-test.txt")];

const fn pip_install(requirements: &str) -> [&str; 11] {
    ["venv/bin/python", "-m", "pip", "install", "--quiet", "--retries", "1", "--timeout", "15", "-r", requirements]
}

const NPM_INSTALL: &[&str] = &[
    "npm",
    "install",
    "--no-audit",
    "--no-fund",
    "--no-package-lock",
    "--ignore-scripts",
    "--install-links",
    "--fetch-retries=1",
    "--fetch-timeout=15000",
];
/// npm keeps a copy of a client that has changed but not its version.
const NO_COPY: &[&str] = &["rm", "-rf", "node_modules/redial-client"];
const NODE: [&[&str]; 2] = [NO_COPY, NPM_INSTALL];
const NODE_CLIENT: [&[&str]; 2] = [NPM_INSTALL, &["node_modules/.bin/tsc", "-p", "tsconfig.build.json"]];
/// The folders of the clients.
const PYTHON_CLIENT_FOLDER: &str = "producer/python";
const NODE_CLIENT_FOLDER: &str = "producer/typescript";
/// What is not part of a client's source.
const GENERATED: [&str; 4] = ["node_modules", "dist", "venv", "__pycache__"];

/// A file that says which packages are installed.
const INSTALLED: &str = "installed";

/// Tests run side by side and share a folder for each example.
static INSTALLING: Mutex<()> = Mutex::const_new(());

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A file or folder of the repository.
pub fn path(path: &str) -> PathBuf {
    root().join(path)
}

/// The text of a file of the repository.
pub fn text(file: &str) -> String {
    std::fs::read_to_string(path(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// How a program ended, and what it printed.
pub struct Ended {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a program to its end. Fails with the reason if it cannot be started or takes too long.
pub async fn run(command: &mut Command) -> Result<Ended, String> {
    run_within(TIMEOUT, command).await
}

/// The same with a limit of its own.
pub async fn run_within(timeout: Duration, command: &mut Command) -> Result<Ended, String> {
    let ended = tokio::time::timeout(timeout, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
    let ended = ended.map_err(|_| format!("it was still running after {timeout:?}"))?;
    let output = ended.map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended { success: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

/// A copy of a Python example with its packages, or `None` (and a line that says SKIPPED) if they cannot be installed here.
pub async fn python(example: &str) -> Option<PathBuf> {
    let _alone = INSTALLING.lock().await;
    installed(example, PYTHON_CLIENT_FOLDER, &root().join(PYTHON_CLIENT_FOLDER), &PYTHON).await
}

/// The same for an example in TypeScript.
pub async fn node(example: &str) -> Option<PathBuf> {
    let _alone = INSTALLING.lock().await;
    let client = installed(NODE_CLIENT_FOLDER, NODE_CLIENT_FOLDER, Path::new(""), &NODE_CLIENT).await?;
    installed(example, NODE_CLIENT_FOLDER, &client, &NODE).await
}

/// A copy of a folder of tests in JavaScript with its packages, in the same way.
pub async fn node_tools(folder: &str) -> Option<PathBuf> {
    let _alone = INSTALLING.lock().await;
    installed(folder, folder, Path::new(""), &[NPM_INSTALL]).await
}

/// The same for tools in Python.
pub async fn python_tools(folder: &str) -> Option<PathBuf> {
    let _alone = INSTALLING.lock().await;
    installed(folder, folder, Path::new(""), &PYTHON).await
}

/// The same for the client in Python, with what its own tests need.
pub async fn python_client() -> Option<PathBuf> {
    let _alone = INSTALLING.lock().await;
    installed(PYTHON_CLIENT_FOLDER, PYTHON_CLIENT_FOLDER, Path::new(""), &PYTHON_CLIENT).await
}

/// The same for the client in TypeScript.
pub async fn node_client() -> Option<PathBuf> {
    let _alone = INSTALLING.lock().await;
    installed(NODE_CLIENT_FOLDER, NODE_CLIENT_FOLDER, Path::new(""), &NODE_CLIENT).await
}

/// A copy of `source`, whose packages are kept from run to run until it or the client that it uses changes. A relative path to the client
/// becomes one to `client`.
async fn installed(source: &str, client_folder: &str, client: &Path, steps: &[&[&str]]) -> Option<PathBuf> {
    let (from, folder) = (root().join(source), Path::new(env!("CARGO_TARGET_TMPDIR")).join(source.replace('/', "-")));
    let up = "../".repeat(source.split('/').count());
    std::fs::create_dir_all(&folder).unwrap();
    remove_leftovers(&from, &folder);
    for (path, text) in sources(&from) {
        let text = text.replace(&format!("{up}{client_folder}"), &client.to_string_lossy());
        std::fs::create_dir_all(folder.join(&path).parent().unwrap()).unwrap();
        write(&folder.join(path), &text);
    }
    // For an example, its pins and the client's sources; for a client, these alone.
    let mut used: Vec<String> = sources(&root().join(client_folder)).into_iter().map(|(_, text)| text).collect();
    used.extend(
        ["requirements.txt", "package.json"].iter().filter_map(|pins| std::fs::read_to_string(from.join(pins)).ok()),
    );
    let (used, done) = (used.concat(), folder.join(INSTALLED));
    if std::fs::read_to_string(&done).is_ok_and(|kept| kept == used) {
        return Some(folder);
    }
    for step in steps {
        // A program that an earlier step installed is in the folder; any other is on the PATH.
        let program = if step[0].contains('/') { folder.join(step[0]) } else { step[0].into() };
        let why = match run(Command::new(program).args(&step[1..]).current_dir(&folder)).await {
            Ok(ended) if ended.success => continue,
            Ok(ended) => ended.stdout + &ended.stderr,
            Err(why) => why,
        };
        eprintln!("SKIPPED: {source}: `{}` failed: {why}", step.join(" "));
        return None;
    }
    std::fs::write(done, used).unwrap();
    Some(folder)
}

/// Removes what an earlier version of an example had: it would be found before what this one imports. Only before the first test uses the
/// folder, as tests add files to it.
fn remove_leftovers(from: &Path, folder: &Path) {
    static DONE: std::sync::Mutex<BTreeSet<PathBuf>> = std::sync::Mutex::new(BTreeSet::new());
    if !DONE.lock().unwrap().insert(folder.to_owned()) {
        return;
    }
    for (path, _) in sources(folder) {
        if path != Path::new(INSTALLED) && !from.join(&path).exists() {
            std::fs::remove_file(folder.join(path)).unwrap();
        }
    }
}

/// The files below a folder, in order, without what was generated there.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(inner) = folders.pop() {
        for file in std::fs::read_dir(folder.join(&inner)).unwrap().flatten() {
            let (name, path) = (file.file_name().to_string_lossy().into_owned(), inner.join(file.file_name()));
            if name.starts_with('.') || GENERATED.contains(&name.as_str()) || name.ends_with(".egg-info") {
                continue;
            }
            if file.path().is_dir() {
                folders.push(path);
            } else {
                found.push((path, std::fs::read_to_string(file.path()).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// Writes a file unless it has this text already: another test may be running it.
pub fn write(path: &Path, text: &str) {
    if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
        return;
    }
    std::fs::write(path, text).unwrap();
}
