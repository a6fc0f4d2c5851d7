//! Columns as Docker prints them: each as wide as its longest cell and three blanks more, with a least width; the
//! last column ends where its text ends.

/// Blanks between a column and the next.
const PADDING: usize = 3;
/// The least width of a column of a listing, with its padding.
pub const LISTING: usize = 10;
/// The least width of a column of `top`, with its padding.
pub const PROCESSES: usize = 20;

/// Lays out lines whose cells are separated by tabs. Each line of the answer ends with a line feed.
///
/// As in Go's `text/tabwriter`, the width of a column is that of one block: neighbouring lines which all have it.
pub fn layout(lines: &[String], least: usize) -> String {
    let rows: Vec<Vec<&str>> = lines.iter().map(|line| line.split('\t').collect()).collect();
    let mut widths: Vec<Vec<usize>> = rows.iter().map(|row| vec![0; row.len().saturating_sub(1)]).collect();
    for start in 0..rows.len() {
        for column in 0..widths[start].len() {
            let continues = start > 0 && widths[start - 1].len() > column;
            if continues {
                continue;
            }
            let end = (start..rows.len()).find(|&row| widths[row].len() <= column).unwrap_or(rows.len());
            let widest = rows[start..end].iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
            for row in &mut widths[start..end] {
                row[column] = (widest + PADDING).max(least);
            }
        }
    }
    let mut out = String::new();
    for (row, widths) in rows.iter().zip(&widths) {
        for (column, cell) in row.iter().enumerate() {
            out.push_str(cell);
            if let Some(width) = widths.get(column) {
                out.extend(std::iter::repeat_n(' ', width - cell.chars().count()));
            }
        }
        out.push('\n');
    }
    out
}

/// Shortens a text to `width` characters, the last of them an ellipsis.
pub fn ellipsis(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(width.saturating_sub(1)).collect();
    short.push('…');
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_padded_like_dockers() {
        for (lines, wanted) in [
            (vec!["CONTAINER ID\tNAMES", "0123456789ab\tweb"], "CONTAINER ID   NAMES\n0123456789ab   web\n"),
            (vec!["A\tB\tC", "long enough\tx\ty"], "A             B         C\nlong enough   x         y\n"),
            (vec!["only"], "only\n"),
            (vec!["REPOSITORY\tTAG", "…\tx"], "REPOSITORY   TAG\n…            x\n"),
            (vec![], ""),
        ] {
            let lines: Vec<String> = lines.into_iter().map(str::to_owned).collect();
            assert_eq!(layout(&lines, LISTING), wanted);
        }
    }

    #[test]
    fn a_listing_may_have_wider_columns() {
        let lines = ["PID\tCMD".to_owned(), "1\tsh".to_owned()];
        assert_eq!(layout(&lines, PROCESSES), "PID                 CMD\n1                   sh\n");
    }

    #[test]
    fn long_texts_end_in_an_ellipsis() {
        assert_eq!(ellipsis("sleep 1000 and more", 10), "sleep 100…");
        assert_eq!(ellipsis("short", 10), "short");
    }
}
