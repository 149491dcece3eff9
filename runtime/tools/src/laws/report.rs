//! What a check of laws found.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{BrokenLaw, Law};

/// What [`super::check_laws`] found. Its text is for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LawReport {
    /// The plugin's name.
    pub plugin: String,
    /// The plugin's version.
    pub version: String,
    /// Its tools, in the manifest's order.
    pub tools: Vec<ToolReport>,
}

/// One tool of a report.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ToolReport {
    /// Its full name.
    pub tool: String,
    /// Every law.
    pub laws: BTreeMap<Law, Outcome>,
}

/// What was found about one law of a tool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// It held in all cases that say something.
    Held {
        /// Their number.
        cases: u32,
    },
    /// It was broken.
    Broken {
        /// As small as it was found.
        counter_example: BrokenLaw,
    },
    /// The tool does not promise it.
    NotDeclared,
    /// No parameters were found that the schema accepts.
    NoParams,
    /// No case says anything: the tool refused, failed or left every task out.
    Untested {
        /// The number of cases.
        cases: u32,
    },
}

impl LawReport {
    /// The laws that were broken, by tool.
    pub fn broken(&self) -> impl Iterator<Item = &BrokenLaw> {
        self.tools.iter().flat_map(|tool| tool.laws.values()).filter_map(|outcome| match outcome {
            Outcome::Broken { counter_example } => Some(counter_example),
            _ => None,
        })
    }
}

impl std::fmt::Display for LawReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{} {}: {} faults", self.plugin, self.version, self.broken().count())?;
        self.tools.iter().try_for_each(|tool| tool.fmt(f))
    }
}

impl std::fmt::Display for ToolReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        writeln!(f, "{}", self.tool)?;
        for (law, outcome) in &self.laws {
            match outcome {
                Outcome::NotDeclared => continue,
                Outcome::Held { cases } => writeln!(f, "  {:<14} held in {cases} cases", law.name())?,
                Outcome::NoParams => {
                    writeln!(
                        f,
                        "  {:<14} not tested: found no parameters that the schema accepts",
                        law.name()
                    )?;
                }
                Outcome::Untested { cases } => {
                    writeln!(
                        f,
                        "  {:<14} not tested: {cases} cases without an answer to look at",
                        law.name()
                    )?;
                }
                Outcome::Broken { counter_example: broken } => {
                    writeln!(f, "  {:<14} BROKEN: {}", law.name(), broken.found)?;
                    writeln!(f, "  {:<14} params {}, seed {}", "", broken.params, broken.seed)?;
                    writeln!(f, "  {:<14} input {}", "", broken.input)?;
                }
            }
        }
        let others = self.laws.iter().filter(|(_, outcome)| **outcome == Outcome::NotDeclared);
        let others: Vec<&str> = others.map(|(law, _)| law.name()).collect();
        if !others.is_empty() {
            writeln!(f, "  not declared: {}", others.join(", "))?;
        }
        Ok(())
    }
}
