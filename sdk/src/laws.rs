//! What a tool promises about its results. The host checks every promise.

/// The promises of a tool. Start from [`Laws::DETERMINISTIC`] or [`Laws::SEEDED`] and add what else holds:
///
/// ```
/// use selkie_sdk::{Laws, Shape};
///
/// const LAWS: Laws = Laws::DETERMINISTIC.shape(Shape::Preserved).palette_closed().items_max(1);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Laws {
    pub(crate) deterministic: bool,
    pub(crate) shape: Option<Shape>,
    pub(crate) palette_closed: bool,
    pub(crate) involution: bool,
    pub(crate) inverse: &'static [Inverse],
    pub(crate) items_max: Option<u32>,
    pub(crate) one_on_equal: bool,
    pub(crate) symmetric: bool,
}

/// What happens to the sides of the grids of a task.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// They stay.
    Preserved,
    /// Height and width change places.
    Swapped,
    /// None is longer than this many times the longest side of the tasks in the batch.
    Bounded(u16),
}

/// A tool that undoes this one.
#[derive(Debug, Clone, Copy)]
pub struct Inverse {
    /// This tool's parameters, a JSON object.
    pub params: &'static str,
    /// The other tool's full name.
    pub tool: &'static str,
    /// The other tool's parameters, a JSON object.
    pub inverse_params: &'static str,
}

impl Laws {
    /// The result does not depend on the seed; the host then always passes seed 0.
    pub const DETERMINISTIC: Laws = Laws {
        deterministic: true,
        shape: None,
        palette_closed: false,
        involution: false,
        inverse: &[],
        items_max: None,
        one_on_equal: false,
        symmetric: false,
    };

    /// The seed matters.
    pub const SEEDED: Laws = Laws { deterministic: false, ..Laws::DETERMINISTIC };

    /// What happens to the sides of the grids.
    pub const fn shape(self, shape: Shape) -> Laws {
        Laws { shape: Some(shape), ..self }
    }

    /// No colour is in the answer that was not in the batch.
    pub const fn palette_closed(self) -> Laws {
        Laws { palette_closed: true, ..self }
    }

    /// Applied twice with the same parameters and seed, the tool gives its input back.
    pub const fn involution(self) -> Laws {
        Laws { involution: true, ..self }
    }

    /// With these parameters, that tool undoes this one.
    pub const fn inverse(self, inverse: &'static [Inverse]) -> Laws {
        Laws { inverse, ..self }
    }

    /// At most so many tasks, or documents, for each item of the batch.
    pub const fn items_max(self, items: u32) -> Laws {
        Laws { items_max: Some(items), ..self }
    }

    /// A grader of two sides: equal ones score 1.
    pub const fn one_on_equal(self) -> Laws {
        Laws { one_on_equal: true, ..self }
    }

    /// A grader of two sides: swapping them does not change the score.
    pub const fn symmetric(self) -> Laws {
        Laws { symmetric: true, ..self }
    }

    /// The laws as a JSON object.
    pub(crate) fn to_json(self) -> String {
        let mut text = format!(r#"{{"deterministic":{}"#, self.deterministic);
        match self.shape {
            None => {}
            Some(Shape::Preserved) => text.push_str(r#","shape":"preserved""#),
            Some(Shape::Swapped) => text.push_str(r#","shape":"swapped""#),
            Some(Shape::Bounded(growth)) => {
                text.push_str(&format!(r#","shape":"bounded","growth_max":{growth}"#));
            }
        }
        let flags = [
            ("palette_closed", self.palette_closed),
            ("involution", self.involution),
            ("one_on_equal", self.one_on_equal),
            ("symmetric", self.symmetric),
        ];
        for (name, _) in flags.into_iter().filter(|(_, holds)| *holds) {
            text.push_str(&format!(r#","{name}":true"#));
        }
        if let Some(items) = self.items_max {
            text.push_str(&format!(r#","items_max":{items}"#));
        }
        for (index, Inverse { params, tool, inverse_params }) in self.inverse.iter().enumerate() {
            text.push_str(if index == 0 { r#","inverse":["# } else { "," });
            text.push_str(&format!(
                r#"{{"params":{params},"tool":"{tool}","inverse_params":{inverse_params}}}"#
            ));
        }
        text.push_str(if self.inverse.is_empty() { "}" } else { "]}" });
        text
    }
}
