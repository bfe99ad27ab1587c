//! The input of a batch, read line by line; each line becomes a call or an error.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::format::{Format, IdSource, RequestForm, RequestFormat};
use super::line::{InputLine, InvalidLine, LineCall, LineDefaults, LineError};
use super::source::{InputFile, InputReader};
use super::template::TemplateError;

/// How the input is to be read.
#[derive(Debug)]
pub struct InputRules {
    pub format: Format,
    pub is_table: bool,
    pub ids: IdSource,
    pub defaults: LineDefaults,
}

/// An input being read.
pub struct Input<'a> {
    rules: &'a InputRules,
    source: InputReader,
    columns: Vec<String>,
    /// The line of each id seen, by the id's hash: 16 bytes each, so that a million lines fit in memory.
    ids: HashMap<u64, u64>,
}

impl<'a> Input<'a> {
    /// Fails if the input as a whole cannot be read in this format.
    pub fn open(file: &InputFile, rules: &'a InputRules) -> anyhow::Result<Self> {
        let (source, columns) = match &rules.format {
            _ if rules.is_table => InputReader::csv(file)?,
            Format::Requests(RequestFormat { form: RequestForm::Anthropic { .. }, .. }) => {
                (InputReader::array_or_lines(file)?, Vec::new())
            }
            _ => (InputReader::lines(file)?, Vec::new()),
        };
        if let (true, Format::Rows(template)) = (rules.is_table, &rules.format)
            && let Some(name) = template.required_columns().find(|name| !columns.iter().any(|column| column == name))
        {
            return Err(TemplateError::NoColumn(name.to_owned()).into());
        }
        Ok(Self { rules, source, columns, ids: HashMap::new() })
    }

    /// What lines get that they do not set themselves.
    pub fn defaults(&self) -> &'a LineDefaults {
        &self.rules.defaults
    }

    /// The next line that is not blank.
    pub fn next(&mut self) -> anyhow::Result<Option<InputLine>> {
        let Some((number, row)) = self.source.next()? else { return Ok(None) };
        let rules = self.rules;
        let call = row.map_err(InvalidLine::from);
        let call = call.and_then(|row| rules.format.call(number, &row, &self.columns, &rules.ids));
        Ok(Some(InputLine { number, call: call.and_then(|call| self.unless_duplicate(number, call)) }))
    }

    fn unless_duplicate(&mut self, number: u64, call: LineCall) -> Result<LineCall, InvalidLine> {
        let Some(id) = &call.id else { return Ok(call) };
        let mut hasher = DefaultHasher::new();
        id.hash(&mut hasher);
        let first = *self.ids.entry(hasher.finish()).or_insert(number);
        if first == number {
            return Ok(call);
        }
        Err(InvalidLine { id: Some(id.clone()), error: LineError::DuplicateId { id: id.clone(), first } })
    }
}
