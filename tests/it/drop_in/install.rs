//! Copies of the examples with the packages that they pin, below `target`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;
use tokio::sync::Mutex;

/// For a program, and for an installation over a slow connection.
const TIMEOUT: Duration = Duration::from_secs(120);

const PYTHON: [&[&str]; 2] = [
    &["python3", "-m", "venv", "--clear", "venv"],
    &[
        "venv/bin/python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--retries",
        "1",
        "--timeout",
        "15",
        "-r",
        "requirements.txt",
    ],
];
const NODE: [&[&str]; 1] = [&[
    "npm",
    "install",
    "--no-audit",
    "--no-fund",
    "--no-package-lock",
    "--ignore-scripts",
    "--fetch-retries=1",
    "--fetch-timeout=15000",
]];

/// Tests run side by side and share a folder for each example.
static INSTALLING: Mutex<()> = Mutex::const_new(());

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The text of a file of the repository.
pub fn text(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// How a program ended, and what it printed.
pub struct Ended {
    pub success: bool,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a program to its end. Fails with the reason if it cannot be started or takes too long.
pub async fn run(command: &mut Command) -> Result<Ended, String> {
    let ended = tokio::time::timeout(TIMEOUT, command.stdin(Stdio::null()).kill_on_drop(true).output()).await;
    let ended = ended.map_err(|_| format!("it was still running after {TIMEOUT:?}"))?;
    let output = ended.map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Ended { success: output.status.success(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

/// A copy of a Python example with its packages, or `None` (and a line that says SKIPPED) if they cannot be installed here.
pub async fn python(example: &str) -> Option<PathBuf> {
    installed(example, "requirements.txt", &PYTHON).await
}

/// The same for an example in TypeScript.
pub async fn node(example: &str) -> Option<PathBuf> {
    installed(example, "package.json", &NODE).await
}

/// The packages are kept from run to run until the file with the pinned versions changes.
async fn installed(example: &str, pins: &str, steps: &[&[&str]]) -> Option<PathBuf> {
    let _alone = INSTALLING.lock().await;
    let (from, folder) = (root().join(example), Path::new(env!("CARGO_TARGET_TMPDIR")).join(example.replace('/', "-")));
    std::fs::create_dir_all(&folder).unwrap();
    for file in std::fs::read_dir(&from).unwrap().flatten().filter(|file| file.path().is_file()) {
        write(&folder.join(file.file_name()), &std::fs::read_to_string(file.path()).unwrap());
    }
    let (pinned, done) = (text(&format!("{example}/{pins}")), folder.join("installed"));
    if std::fs::read_to_string(&done).is_ok_and(|kept| kept == pinned) {
        return Some(folder);
    }
    for step in steps {
        // A program that an earlier step installed is in the folder; any other is on the PATH.
        let program = if step[0].contains('/') { folder.join(step[0]) } else { step[0].into() };
        let why = match run(Command::new(program).args(&step[1..]).current_dir(&folder)).await {
            Ok(ended) if ended.success => continue,
            Ok(ended) => ended.stderr,
            Err(why) => why,
        };
        eprintln!("SKIPPED: {example}: `{}` failed: {why}", step.join(" "));
        return None;
    }
    std::fs::write(done, pinned).unwrap();
    Some(folder)
}

/// Writes a file unless it has this text already: another test may be running it.
pub fn write(path: &Path, text: &str) {
    if std::fs::read_to_string(path).is_ok_and(|there| there == text) {
        return;
    }
    std::fs::write(path, text).unwrap();
}
