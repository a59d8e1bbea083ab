//! Tables for people: a header, aligned columns, no frame that gets in the way of copying.

use std::io::{self, Write};

use comfy_table::presets::NOTHING;
use comfy_table::{Cell, CellAlignment, ContentArrangement, Table};

/// A column's name and which way it is aligned.
pub(crate) enum Column {
    Text(&'static str),
    Number(&'static str),
}

/// A table with these columns and no rows.
pub(crate) fn table(columns: &[Column]) -> Table {
    let mut table = Table::new();
    table
        .load_style(NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    table.set_header(columns.iter().map(|column| match column {
        Column::Text(name) => Cell::new(name),
        Column::Number(name) => Cell::new(name).set_alignment(CellAlignment::Right),
    }));
    for (index, column) in columns.iter().enumerate() {
        let alignment = match column {
            Column::Text(_) => CellAlignment::Left,
            Column::Number(_) => CellAlignment::Right,
        };
        let column = table.column_mut(index).expect("the header made the column");
        column.set_cell_alignment(alignment);
        column.set_padding((0, 2));
    }
    table
}

/// Prints a table without trailing blanks.
pub(crate) fn print(table: &Table) -> io::Result<()> {
    let mut output = io::stdout().lock();
    for line in table.lines() {
        writeln!(output, "{}", line.trim_end())?;
    }
    Ok(())
}
