//! The state diagram of RFC 9293 (figure 5), drawn in text, with the ways of both ends marked.

/// Size of the drawing in characters.
const COLUMNS: usize = 94;
const ROWS: usize = 33;
/// A box: as wide as the longest name needs, three rows high.
const BOX_WIDTH: usize = 15;
const BOX_NAME: usize = BOX_WIDTH - 2;

/// A state's box, by its upper left corner. CLOSE stands there twice: where all begins, and where all ends.
struct Node {
    name: &'static str,
    column: usize,
    row: usize,
}

const fn node(name: &'static str, column: usize, row: usize) -> Node {
    Node { name, column, row }
}

const NODES: [Node; 12] = [
    node("CLOSE", 40, 0),
    node("LISTEN", 40, 5),
    node("SYN_RECV", 12, 10),
    node("SYN_SENT", 68, 10),
    node("ESTABLISHED", 40, 15),
    node("FIN_WAIT1", 12, 20),
    node("CLOSE_WAIT", 68, 20),
    node("FIN_WAIT2", 12, 25),
    node("CLOSING", 40, 25),
    node("LAST_ACK", 68, 25),
    node("TIME_WAIT", 40, 30),
    node("CLOSE", 68, 30),
];

/// A transition: a line through these points (column, row), and what makes it happen.
struct Edge {
    from: &'static str,
    to: &'static str,
    points: &'static [(usize, usize)],
    label: &'static str,
    label_at: (usize, usize),
}

/// Those of RFC 9293 that lead a connection through an ordinary life.
const EDGES: [Edge; 14] = [
    Edge { from: "CLOSE", to: "LISTEN", points: &[(47, 3), (47, 4)], label: "listen()", label_at: (49, 3) },
    Edge {
        from: "CLOSE",
        to: "SYN_SENT",
        points: &[(55, 1), (75, 1), (75, 9)],
        label: "connect(), SYN out",
        label_at: (56, 0),
    },
    Edge {
        from: "LISTEN",
        to: "SYN_RECV",
        points: &[(39, 6), (19, 6), (19, 9)],
        label: "SYN in, SYN-ACK out",
        label_at: (20, 5),
    },
    Edge {
        from: "SYN_SENT",
        to: "SYN_RECV",
        points: &[(67, 11), (27, 11)],
        label: "SYN in, SYN-ACK out",
        label_at: (38, 10),
    },
    Edge {
        from: "SYN_RECV",
        to: "ESTABLISHED",
        points: &[(19, 13), (19, 16), (39, 16)],
        label: "ACK in",
        label_at: (26, 15),
    },
    Edge {
        from: "SYN_SENT",
        to: "ESTABLISHED",
        points: &[(75, 13), (75, 16), (55, 16)],
        label: "SYN-ACK in, ACK out",
        label_at: (56, 15),
    },
    Edge {
        from: "ESTABLISHED",
        to: "FIN_WAIT1",
        points: &[(42, 18), (42, 21), (27, 21)],
        label: "close(), FIN out",
        label_at: (25, 19),
    },
    Edge {
        from: "ESTABLISHED",
        to: "CLOSE_WAIT",
        points: &[(52, 18), (52, 21), (67, 21)],
        label: "FIN in, ACK out",
        label_at: (54, 19),
    },
    Edge {
        from: "FIN_WAIT1",
        to: "FIN_WAIT2",
        points: &[(17, 23), (17, 24)],
        label: "ACK in",
        label_at: (10, 23),
    },
    Edge {
        from: "FIN_WAIT1",
        to: "CLOSING",
        points: &[(27, 22), (47, 22), (47, 24)],
        label: "FIN in, ACK out",
        label_at: (30, 23),
    },
    Edge {
        from: "FIN_WAIT2",
        to: "TIME_WAIT",
        points: &[(19, 28), (19, 31), (39, 31)],
        label: "FIN in, ACK out",
        label_at: (22, 30),
    },
    Edge {
        from: "CLOSING",
        to: "TIME_WAIT",
        points: &[(47, 28), (47, 29)],
        label: "ACK in",
        label_at: (49, 28),
    },
    Edge {
        from: "CLOSE_WAIT",
        to: "LAST_ACK",
        points: &[(75, 23), (75, 24)],
        label: "close(), FIN out",
        label_at: (77, 23),
    },
    Edge {
        from: "TIME_WAIT",
        to: "CLOSE",
        points: &[(55, 31), (67, 31)],
        label: "after 60 s",
        label_at: (56, 30),
    },
];

/// LAST_ACK has its line to the end; all others end outside the order of the RFC's figure: by a RST, or by a timer. These
/// are drawn only where a scenario goes that way.
const LAST: Edge = Edge {
    from: "LAST_ACK",
    to: "CLOSE",
    points: &[(75, 28), (75, 29)],
    label: "ACK in",
    label_at: (77, 28),
};
const EXITS: [Edge; 4] = [
    Edge { from: "SYN_SENT", to: "CLOSE", points: &[(83, 11), (85, 11)], label: "CLOSE", label_at: (87, 11) },
    Edge { from: "SYN_RECV", to: "CLOSE", points: &[(11, 11), (9, 11)], label: "CLOSE", label_at: (3, 11) },
    Edge {
        from: "ESTABLISHED",
        to: "CLOSE",
        points: &[(47, 18), (47, 19)],
        label: "CLOSE",
        label_at: (45, 20),
    },
    Edge { from: "FIN_WAIT2", to: "CLOSE", points: &[(11, 26), (9, 26)], label: "CLOSE", label_at: (3, 26) },
];

fn lines() -> impl Iterator<Item = &'static Edge> {
    EDGES.iter().chain([&LAST])
}

/// Whether the diagram has a line from one state to the other.
#[cfg(test)]
pub(super) fn leads(from: &str, to: &str) -> bool {
    lines().chain(&EXITS).any(|edge| (edge.from, edge.to) == (from, to))
}

/// The diagram, a line each, without spaces at the ends; the boxes on a way carry C for the client and S for the server.
pub(super) fn draw(client: &[&str], server: &[&str]) -> Vec<String> {
    let mut canvas = Canvas { cells: vec![[' '; COLUMNS]; ROWS] };
    let walks = |path: &[&str], edge: &Edge| path.windows(2).any(|step| step == [edge.from, edge.to]);
    let walked = |edge: &Edge| walks(client, edge) || walks(server, edge);
    // Those that are walked last, so that they are whole.
    for edge in lines().filter(|edge| !walked(edge)).chain(lines().filter(|edge| walked(edge))) {
        canvas.edge(edge, walked(edge));
    }
    for edge in EXITS.iter().filter(|edge| walked(edge)) {
        canvas.edge(edge, true);
    }
    for (index, node) in NODES.iter().enumerate() {
        let is_end = index == NODES.len() - 1;
        // A way leads to the lower CLOSE only where a line does; where it breaks off, it says so itself.
        let visits = |path: &[&str]| match (node.name, is_end) {
            ("CLOSE", false) => path.first() == Some(&"CLOSE"),
            ("CLOSE", true) => {
                path.windows(2).any(|step| step == ["TIME_WAIT", "CLOSE"] || step == ["LAST_ACK", "CLOSE"])
            }
            (name, _) => path.contains(&name),
        };
        canvas.node(node, visits(client), visits(server));
    }
    canvas.cells.iter().map(|row| row.iter().collect::<String>().trim_end().to_owned()).collect()
}

struct Canvas {
    cells: Vec<[char; COLUMNS]>,
}

impl Canvas {
    /// What lies outside is not drawn.
    fn put(&mut self, column: usize, row: usize, what: char) {
        if let Some(cell) = self.cells.get_mut(row).and_then(|row| row.get_mut(column)) {
            *cell = what;
        }
    }

    fn text(&mut self, (column, row): (usize, usize), text: &str) {
        for (offset, letter) in text.chars().enumerate() {
            self.put(column + offset, row, letter);
        }
    }

    fn node(&mut self, node: &Node, client: bool, server: bool) {
        let [across, down, corners] =
            if client || server { ["━", "┃", "┏┓┗┛"] } else { ["─", "│", "┌┐└┘"] };
        let corner = |index| corners.chars().nth(index).unwrap_or(' ');
        let who = match (client, server) {
            (true, true) => " C S ",
            (true, false) => " C ",
            (false, true) => " S ",
            (false, false) => "",
        };
        let rest = BOX_NAME - who.len();
        let left = rest.min(1);
        let top =
            format!("{}{}{who}{}{}", corner(0), across.repeat(left), across.repeat(rest - left), corner(1));
        self.text((node.column, node.row), &top);
        self.text((node.column, node.row + 1), &format!("{down}{:^BOX_NAME$}{down}", node.name));
        let bottom = format!("{}{}{}", corner(2), across.repeat(BOX_NAME), corner(3));
        self.text((node.column, node.row + 2), &bottom);
    }

    fn edge(&mut self, edge: &Edge, walked: bool) {
        let (across, down) = if walked { ('━', '┃') } else { ('┄', '┆') };
        for pair in edge.points.windows(2) {
            let ((a, b), (c, d)) = (pair[0], pair[1]);
            for column in a.min(c)..=a.max(c) {
                for row in b.min(d)..=b.max(d) {
                    self.put(column, row, if b == d { across } else { down });
                }
            }
        }
        for bend in edge.points.windows(3) {
            self.put(bend[1].0, bend[1].1, corner(bend[0], bend[1], bend[2], walked));
        }
        if let [.., before, end] = edge.points {
            let arrow = match (end.0 > before.0, end.0 < before.0) {
                (true, _) => '▶',
                (_, true) => '◀',
                _ => '▼',
            };
            self.put(end.0, end.1, arrow);
        }
        self.text(edge.label_at, edge.label);
    }
}

/// The corner of a line that comes from one point and goes on to another.
fn corner(from: (usize, usize), at: (usize, usize), to: (usize, usize), walked: bool) -> char {
    let touches = |side: fn((usize, usize), (usize, usize)) -> bool| side(from, at) || side(to, at);
    let left = touches(|point, at| point.0 < at.0);
    let above = touches(|point, at| point.1 < at.1);
    match (left, above, walked) {
        (true, true, true) => '┛',
        (true, true, false) => '┘',
        (true, false, true) => '┓',
        (true, false, false) => '┐',
        (false, true, true) => '┗',
        (false, true, false) => '└',
        (false, false, true) => '┏',
        (false, false, false) => '┌',
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lesson::states::STATES;

    #[test]
    fn every_state_has_its_box_and_every_line_leads_from_box_to_box() {
        for (state, _) in STATES {
            assert!(NODES.iter().any(|node| node.name == state), "{state}");
        }
        for edge in lines().chain(&EXITS) {
            for end in [edge.from, edge.to] {
                assert!(NODES.iter().any(|node| node.name == end), "{end}");
            }
        }
        assert!(leads("SYN_SENT", "ESTABLISHED") && !leads("ESTABLISHED", "SYN_SENT"));
    }

    /// A line begins next to its state's box, and ends next to the other's.
    #[test]
    fn lines_touch_their_boxes() {
        let beside = |name: &str, (column, row): (usize, usize)| {
            NODES.iter().filter(|node| node.name == name).any(|node| {
                let (right, below) = (node.column + BOX_WIDTH, node.row + 3);
                let within = (node.column..right).contains(&column) && (node.row..below).contains(&row);
                let around = (node.column.saturating_sub(1)..=right).contains(&column)
                    && (node.row.saturating_sub(1)..=below).contains(&row);
                around && !within
            })
        };
        for edge in lines() {
            let (first, last) = (edge.points[0], edge.points[edge.points.len() - 1]);
            assert!(beside(edge.from, first), "{} to {}: begins at {first:?}", edge.from, edge.to);
            assert!(beside(edge.to, last), "{} to {}: ends at {last:?}", edge.from, edge.to);
        }
    }

    #[test]
    fn nothing_is_drawn_over_a_box_or_a_label() {
        let whole = draw(&[], &[]).join("\n");
        for edge in lines() {
            assert!(whole.contains(edge.label), "{} to {}: {}\n{whole}", edge.from, edge.to, edge.label);
        }
        for node in &NODES {
            assert!(whole.contains(&format!("│{:^BOX_NAME$}│", node.name)), "{}\n{whole}", node.name);
        }
    }

    #[test]
    fn the_way_is_marked_and_nothing_else() {
        let drawn = draw(&["CLOSE", "SYN_SENT", "CLOSE"], &["CLOSE", "LISTEN"]).join("\n");
        for marked in ["┏━ C S ━━━━━━━┓", "┏━ C ━━━━━━━━━┓", "┏━ S ━━━━━━━━━┓", "┃  SYN_SENT   ┃━━▶ CLOSE"]
        {
            assert!(drawn.contains(marked), "{marked}\n{drawn}");
        }
        assert!(drawn.contains("│ ESTABLISHED │"), "{drawn}");
    }
}
