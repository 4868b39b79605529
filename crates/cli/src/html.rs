//! A failure as a picture: a page with a lane for each task, and its steps from top to bottom.

use std::fmt::Write;

use blockyard_sim::TapeLine;

/// What stands at the top of the page.
pub(crate) struct Head<'a> {
    /// What it is called.
    pub title: &'a str,
    /// What was broken, if anything was.
    pub verdict: &'a str,
    /// What it was run with.
    pub facts: &'a [(String, String)],
}

const STYLE: &str = "body{font:14px sans-serif;margin:1.5em}h1{font-size:1.2em}\
    table{border-collapse:collapse}td,th{padding:.15em .6em;vertical-align:top;text-align:left}\
    .lanes th{position:sticky;top:0;background:#fff;border-bottom:1px solid #888}\
    .lanes td+td{border-left:1px solid #ddd}.number{color:#888;text-align:right}\
    .effect,.complete{background:#eef3fb}.fault{background:#fbdcdc}.end{background:#f4ecd8}\
    .note{color:#444}.mark{color:#a00;font-weight:bold}.broken{color:#a00}";

/// The whole page; it needs nothing beside it.
pub(crate) fn page(head: &Head<'_>, tape: &[TapeLine]) -> String {
    let lanes = lanes(tape);
    let mut html = String::new();
    let title = escaped(head.title);
    // A String takes everything.
    let _ = write!(
        html,
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>{title}</title>\
         <style>{STYLE}</style></head>\n<body><h1>{title}</h1>\n<p class=\"broken\">{}</p>\n<table>\n",
        escaped(head.verdict)
    );
    for (key, value) in head.facts {
        let (key, value) = (escaped(key), escaped(value));
        let _ = writeln!(html, "<tr><th>{key}</th><td>{value}</td></tr>");
    }
    html += "</table>\n<table class=\"lanes\">\n<tr><th></th>";
    lanes.iter().for_each(|lane| {
        let _ = write!(html, "<th>{}</th>", escaped(lane));
    });
    html += "</tr>\n";
    for (number, line) in (1..).zip(tape) {
        row(&mut html, number, line, &lanes);
    }
    html + "</table></body></html>\n"
}

fn row(html: &mut String, number: usize, line: &TapeLine, lanes: &[&str]) {
    let (verb, rest) = line.event.split_once(' ').unwrap_or((&line.event, ""));
    let class = match verb {
        "poll" | "choose" | "fire" | "keep" => "poll",
        "effect" | "complete" => verb,
        "end" | "calm" | "crash" => "end",
        _ => "fault",
    };
    let _ = write!(html, "<tr><td class=\"number\">{number}</td>");
    let place = lanes.iter().position(|lane| *lane == lane_of(&line.event)).unwrap_or(0);
    html.push_str(&"<td></td>".repeat(place));
    // The lane says who it is.
    let what = rest.split_once(' ').map_or("", |(_, what)| what);
    let _ = write!(html, "<td class=\"{class}\">{} {}", escaped(verb), escaped(what));
    for note in &line.notes {
        let marks = note.starts_with("necessary") || note.starts_with("races with");
        let class = if marks { "mark" } else { "note" };
        let _ = write!(html, "<div class=\"{class}\">{}</div>", escaped(note));
    }
    html.push_str("</td>");
    html.push_str(&"<td></td>".repeat(lanes.len() - 1 - place));
    html.push_str("</tr>\n");
}

/// Whose event it is: a request, a timer and a choice are their task's.
fn lane_of(event: &str) -> &str {
    let label = event.split(' ').nth(1).unwrap_or("");
    label.split(['#', '@', '?']).next().unwrap_or(label)
}

/// The lanes, in the order in which their tasks appear.
fn lanes(tape: &[TapeLine]) -> Vec<&str> {
    let mut lanes = Vec::new();
    for line in tape {
        let lane = lane_of(&line.event);
        if !lanes.contains(&lane) {
            lanes.push(lane);
        }
    }
    lanes
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            _ => escaped.push(letter),
        }
    }
    escaped
}
