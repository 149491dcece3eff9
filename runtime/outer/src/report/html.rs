//! The report as one HTML page: no scripts, nothing fetched, readable in light, in dark and on paper. Everything that
//! comes from the run goes through [`escape`].

use super::content::{main_result, sections, subject};
use super::words::{escape, percent};
use super::{Caption, Cell, Column, Part, Section, Table, plot};
use crate::summary::Summary;

const STYLE: &str = include_str!("style.css");

/// The report as one HTML page that needs no server, no script and no other file.
pub fn html(summary: &Summary) -> String {
    let subject = subject(summary).into_iter();
    let subject =
        subject.map(|(name, value)| format!("<div><dt>{name}</dt><dd>{}</dd></div>\n", escape(&value)));
    let mut figures = 0;
    let sections = sections(summary);
    let body = sections.iter().enumerate().map(|(index, section)| section_html(index, section, &mut figures));
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
         </head>\n<body>\n<main>\n<h1>{title}</h1>\n<dl class=\"subject\">\n{}</dl>\n<p class=\"result\">{}</p>\n{}\
         </main>\n</body>\n</html>\n",
        subject.collect::<String>(),
        escape(&main_result(summary)),
        body.collect::<String>(),
        title = escape(&summary.title),
    )
}

fn section_html(index: usize, section: &Section, figures: &mut usize) -> String {
    let parts: String = section.parts.iter().map(|part| part_html(part, figures)).collect();
    let title = escape(&section.title);
    format!("<section aria-labelledby=\"s{index}\">\n<h2 id=\"s{index}\">{title}</h2>\n{parts}</section>\n")
}

fn part_html(part: &Part, figures: &mut usize) -> String {
    *figures += 1;
    let id = format!("f{figures}");
    match part {
        Part::Paragraph(text) => format!("<p>{}</p>\n", escape(text)),
        Part::List(items) => {
            let items: String = items.iter().map(|item| format!("<li>{}</li>\n", escape(item))).collect();
            format!("<ul>\n{items}</ul>\n")
        }
        Part::Table(table) => table_html(table),
        Part::Rewards(figure) => figure_html(&figure.caption, plot::rewards(&id, figure), ""),
        Part::Intervals(figure) => figure_html(&figure.caption, plot::intervals(&id, figure), ""),
        Part::Bars(figure) => {
            figure_html(&figure.caption, plot::bars(&id, figure), &plot::left_out(figure).unwrap_or_default())
        }
    }
}

/// A figure with its caption; nothing where there is nothing to see.
fn figure_html(caption: &Caption, svg: Option<String>, remark: &str) -> String {
    let Some(svg) = svg else {
        return String::new();
    };
    let remark = if remark.is_empty() { String::new() } else { format!(" <span>{}</span>", escape(remark)) };
    let title = escape(&caption.title);
    format!(
        "<figure>\n<figcaption>{title}{remark}</figcaption>\n<div class=\"scroll\">\n{svg}</div>\n</figure>\n"
    )
}

fn table_html(table: &Table) -> String {
    let caption = escape(&table.caption);
    let head = table
        .columns
        .iter()
        .map(|column| format!("<th scope=\"col\"{}>{}</th>", alignment(column), escape(&column.name)));
    let rows = table.rows.iter().map(|row| format!("<tr>{}</tr>\n", row_html(&table.columns, row)));
    format!(
        "<div class=\"scroll\" role=\"region\" aria-label=\"{caption}\" tabindex=\"0\">\n<table>\n\
         <caption>{caption}</caption>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}</tbody>\n</table>\n</div>\n",
        head.collect::<String>(),
        rows.collect::<String>(),
    )
}

fn row_html(columns: &[Column], row: &[Cell]) -> String {
    let cells = columns.iter().zip(row).enumerate().map(|(at, (column, cell))| {
        let (text, align) = (escape(&cell.text), alignment(column));
        match cell.shade {
            _ if at == 0 => format!("<th scope=\"row\"{align}>{text}</th>"),
            Some(shade) => {
                let shade = percent(shade.clamp(0.0, 1.0));
                format!("<td class=\"number share\" style=\"--share: {shade}\">{text}</td>")
            }
            None => format!("<td{align}>{text}</td>"),
        }
    });
    cells.collect()
}

fn alignment(column: &Column) -> &'static str {
    if column.numeric { " class=\"number\"" } else { "" }
}
