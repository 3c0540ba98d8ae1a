//! The tables of `relievo reproduce`, for a terminal and as Markdown.

use std::fmt::Write as _;

use relievo_reproduce::{Results, Spread, Summary, Table};

/// A table for a terminal of 80 columns.
pub fn plain(table: Table, results: &Results) -> String {
    let lines = results.summaries(table);
    if lines.is_empty() {
        return format!("{}: nothing has been measured yet", table.name());
    }
    let mut text = format!(
        "{:<24} {:>14} {:>13} {:>5} {:>7}  {:>11}\n",
        table.name(),
        "SIDE x 100",
        "MAD, degrees",
        "seeds",
        "steps",
        "paper"
    );
    for line in &lines {
        let columns = format!(
            "{:<24} {:>14} {:>13} {:>5} {:>7}  {:>11}",
            line.row.title(),
            spread(line.side, 100.0, 3),
            spread(line.mad, 1.0, 2),
            if line.seeds > 0 { line.seeds.to_string() } else { "-".into() },
            if line.steps > 0 { line.steps.to_string() } else { "-".into() },
            paper(line)
        );
        let _ = writeln!(text, "{}", columns.trim_end());
    }
    let _ = writeln!(
        text,
        "\n{:<24} {:>14} {:>13} {:>12}",
        "the whole head", "SIDE x 100", "MAD, degrees", "hours a run"
    );
    for line in &lines {
        let _ = writeln!(
            text,
            "{:<24} {:>14} {:>13} {:>12}",
            line.row.title(),
            spread(line.whole_side, 100.0, 3),
            spread(line.whole_mad, 1.0, 2),
            hours(line)
        );
    }
    if table == Table::Losses {
        text.push_str(&costs(&lines));
    }
    let _ = write!(
        text,
        "\nmeans over heads never seen, then over seeds, ± how far seeds are from each\n\
         other; above where the model sees the head too; paper: on its own data"
    );
    text
}

/// What the terms of a loss cost, and what they reach in the time of the quickest.
fn costs(lines: &[Summary]) -> String {
    let mut text = format!(
        "\n{:<24} {:>14} {:>12} {:>14} {:>12}\n",
        "cost", "reconstruction", "ms a step", "SIDE then x100", "MAD then"
    );
    for line in lines {
        let [side, mad] = line.at_equal_time;
        let columns = format!(
            "{:<24} {:>14} {:>12} {:>14} {:>12}",
            line.row.title(),
            spread(line.reconstruction, 1.0, 4),
            spread(line.milliseconds, 1.0, 0),
            spread(side, 100.0, 3),
            spread(mad, 1.0, 2)
        );
        let _ = writeln!(text, "{}", columns.trim_end());
    }
    text + "then: on heads validated on, after the time of all steps of the quickest run\n"
}

/// A table as Markdown; `None` if nothing of it has been measured.
pub fn markdown(table: Table, results: &Results) -> Option<String> {
    let lines = results.summaries(table);
    if lines.is_empty() {
        return None;
    }
    let mut text = format!(
        "## {}\n\n| row | SIDE x 100 | MAD, degrees | whole head: SIDE | MAD | paper, its data | seeds | steps | hours | heads: \
         learned, validated, test | device | date |\n|---|---|---|---|---|---|---|---|---|---|---|---|\n",
        table.name()
    );
    for line in &lines {
        let heads = line.heads;
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} | {} | {} | {} | {}, {}, {} | {} | {} |",
            line.row.title(),
            spread(line.side, 100.0, 3),
            spread(line.mad, 1.0, 2),
            spread(line.whole_side, 100.0, 3),
            spread(line.whole_mad, 1.0, 2),
            paper(line),
            line.seeds,
            line.steps,
            hours(line),
            heads.training,
            heads.validation,
            heads.test,
            line.devices.join(", "),
            line.date
        );
    }
    if table == Table::Losses {
        text.push_str(
            "\n| row | reconstruction | ms a step | SIDE x 100 at equal time | MAD, degrees, at equal time |\n\
             |---|---|---|---|---|\n",
        );
        for line in &lines {
            let [side, mad] = line.at_equal_time;
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} |",
                line.row.title(),
                spread(line.reconstruction, 1.0, 4),
                spread(line.milliseconds, 1.0, 0),
                spread(side, 100.0, 3),
                spread(mad, 1.0, 2)
            );
        }
    }
    Some(text)
}

/// Mean and deviation over seeds, or the mean of a single one.
fn spread(spread: Option<Spread>, unit: f64, digits: usize) -> String {
    let Some(Spread { mean, deviation }) = spread else { return "-".into() };
    match deviation {
        Some(deviation) => format!("{:.digits$} ±{:.digits$}", unit * mean, unit * deviation),
        None => format!("{:.digits$}", unit * mean),
    }
}

fn paper(line: &Summary) -> String {
    line.row.published().map_or_else(String::new, |paper| format!("{:.3}/{:.2}", paper.side, paper.mad))
}

fn hours(line: &Summary) -> String {
    if line.seeds > 0 { format!("{:.2}", line.hours) } else { "-".into() }
}

#[cfg(test)]
mod tests {
    use relievo_reproduce::{HeadCounts, Measured, Row, Validated};
    use relievo_train::Scores;
    use relievo_train::metrics::Statistic;

    use super::*;

    fn measured(row: Row, seed: u64, side: f64, mad: f64) -> Measured {
        let statistic = |mean| Some(Statistic { mean, standard_deviation: 0.1, images: 20_000 });
        let scores = |factor: f64| Scores {
            depth_error: statistic(factor * side),
            normal_error: statistic(factor * mad),
            ..Scores::default()
        };
        Measured {
            row,
            seed: row.learns().then_some(seed),
            steps: if row.learns() { 75_000 } else { 0 },
            hours: 0.313,
            device: "NVIDIA H100 80GB HBM3".into(),
            date: "2026-12-01".into(),
            heads: HeadCounts { training: 160_000, validation: 20_000, test: 20_000 },
            recipe: "a1b2c3d4".into(),
            visible: scores(1.0),
            whole: scores(1.25),
            reconstruction: row.learns().then_some(0.1234),
            milliseconds: row.learns().then_some(12_345.6),
            validations: [1000, 75_000].map(|step| Validated { step, side: 0.0123, mad: 17.25 }).to_vec(),
        }
    }

    /// Every row, with numbers that need all the room there is.
    fn results() -> Results {
        let rows: Vec<Row> = Table::ALL.iter().flat_map(|table| table.rows()).copied().collect();
        let of_row = |row: Row| {
            [0, 1].map(|seed| measured(row, seed, 0.012345 + 0.1 * seed as f64, 17.2 + seed as f64))
        };
        Results { results: rows.into_iter().flat_map(of_row).collect() }
    }

    #[test]
    fn tables_fit_into_80_columns() {
        for table in Table::ALL.iter().copied() {
            let text = plain(table, &results());
            let widest = text.lines().max_by_key(|line| line.chars().count()).unwrap();
            assert!(widest.chars().count() <= 80, "{widest}");
            let (blocks, notes) = if table == Table::Losses { (3, 6) } else { (2, 4) };
            assert_eq!(text.lines().count(), blocks * (table.rows().len() + 1) + notes, "{text}");
        }
    }

    #[test]
    fn a_table_looks_like_this() {
        let some = Results {
            results: vec![
                measured(Row::Ours, 0, 0.0081, 16.4),
                measured(Row::Ours, 1, 0.0079, 16.8),
                measured(Row::ConstantDepth, 0, 0.02551, 40.5),
            ],
        };
        let plain_text = "\
comparison                   SIDE x 100  MAD, degrees seeds   steps        paper
ours                       0.800 ±0.014   16.60 ±0.28     2   75000  0.793/16.51
constant depth                    2.551         40.50     -       -  2.723/43.34

the whole head               SIDE x 100  MAD, degrees  hours a run
ours                       1.000 ±0.018   20.75 ±0.35         0.31
constant depth                    3.189         50.62            -

means over heads never seen, then over seeds, ± how far seeds are from each
other; above where the model sees the head too; paper: on its own data";
        assert_eq!(plain(Table::Comparison, &some), plain_text);
        let text = markdown(Table::Comparison, &some).unwrap();
        let last = text.lines().last().unwrap();
        assert_eq!(
            last,
            "| constant depth | 2.551 | 40.50 | 3.189 | 50.62 | 2.723/43.34 | 0 | 0 | - | 160000, 20000, 20000 | \
             NVIDIA H100 80GB HBM3 | 2026-12-01 |"
        );
        assert!(text.starts_with("## comparison\n\n| row |"));
        assert_eq!(markdown(Table::Ablation, &Results::default()), None);
        assert_eq!(plain(Table::Ablation, &Results::default()), "ablation: nothing has been measured yet");
    }
}
