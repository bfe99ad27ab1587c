//! The manual page and the completions of the program, as packages install them.

use clap_complete::Shell;

/// Which of them to print.
#[derive(clap::Args)]
pub struct PageArgs {
    /// Print the manual page, and exit.
    #[arg(long, exclusive = true)]
    man_page: bool,
    /// Print completions for a shell, and exit.
    #[arg(long, value_name = "SHELL", exclusive = true)]
    completions: Option<Shell>,
}

impl PageArgs {
    /// What to print, complete, so that a reader that goes away leaves nothing half done. `None` if neither is wanted.
    pub fn page(&self, mut command: clap::Command) -> Option<Vec<u8>> {
        let mut page = Vec::new();
        if self.man_page {
            // Nothing fails that is written to memory.
            clap_mangen::Man::new(command).render(&mut page).ok()?;
        } else {
            clap_complete::generate(self.completions?, &mut command, "redial-worker", &mut page);
        }
        Some(page)
    }
}
