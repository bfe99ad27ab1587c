//! Names that are put down when they are used, so that what they stand for can be listed: limits, breakers.

use crate::{Error, Queue, UnixMs};

impl Queue {
    /// Puts a name down, or down again.
    pub(crate) async fn note_name(&self, index: &str, name: &str) -> Result<(), Error> {
        let mut add = redis::cmd("ZADD");
        add.arg(index).arg(UnixMs::local().0).arg(name);
        self.link.run(async |wire| add.exec_async(wire).await).await
    }

    /// The names, in their order.
    pub(crate) async fn noted_names(&self, index: &str) -> Result<Vec<String>, Error> {
        let mut range = redis::cmd("ZRANGE");
        range.arg(index).arg(0).arg(-1);
        let mut names: Vec<String> = self.link.run(async |wire| range.query_async(wire).await).await?;
        names.sort();
        Ok(names)
    }

    /// Forgets a name.
    pub(crate) async fn forget_name(&self, index: &str, name: &str) -> Result<(), Error> {
        let mut forget = redis::cmd("ZREM");
        forget.arg(index).arg(name);
        self.link.run(async |wire| forget.exec_async(wire).await).await
    }
}
