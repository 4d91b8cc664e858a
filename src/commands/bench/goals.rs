//! Figures that have a goal of their own, and how they are printed: for the benches that measure one part of Settle.

use serde_json::{Value, json};

/// A line of the table.
pub struct Figure {
    name: &'static str,
    unit: &'static str,
    goal: Option<f64>,
    value: f64,
    note: String,
}

/// A value, and what it may be at most.
pub fn figure(
    name: &'static str,
    unit: &'static str,
    goal: Option<f64>,
    value: f64,
    note: impl Into<String>,
) -> Figure {
    Figure { name, unit, goal, value, note: note.into() }
}

/// Prints a table, or JSON.
pub fn print(figures: &[Figure], as_json: bool) {
    let met = |figure: &Figure| figure.goal.map(|goal| figure.value <= goal);
    if as_json {
        let row = |figure: &Figure| {
            let (name, goal) = (figure.name, figure.goal);
            json!({"figure": name, "unit": figure.unit, "value": figure.value, "at_most": goal, "met": met(figure),
                "note": figure.note})
        };
        println!("{}", Value::Array(figures.iter().map(row).collect()));
        return;
    }
    println!("{:<42} {:>10} {:>6} {:>8}         remarks", "figure", "measured", "unit", "at most");
    for figure in figures {
        let goal = figure.goal.map(|goal| goal.to_string()).unwrap_or_default();
        let verdict = met(figure).map_or("", |met| if met { "met" } else { "MISSED" });
        let Figure { name, value, unit, note, .. } = figure;
        println!("{name:<42} {value:>10.2} {unit:>6} {goal:>8} {verdict:<7} {note}");
    }
}
