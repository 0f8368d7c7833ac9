//! The links as a drawing.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::Path;

use crate::page::Page;

/// More of them nobody could tell apart in a drawing.
const MOST_DRAWN: usize = 2000;

#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: Vec<Node>,
    places: HashMap<String, usize>,
    edges: Vec<(usize, String)>,
}

#[derive(Debug)]
struct Node {
    url: String,
    depth: u32,
    broken: bool,
    redirect: bool,
}

impl Graph {
    pub(crate) fn add(&mut self, page: &Page) {
        if page.skipped.is_some() {
            return;
        }
        let place = self.nodes.len();
        self.places.insert(page.url.clone(), place);
        self.nodes.push(Node {
            url: page.url.clone(),
            depth: page.depth,
            broken: page.is_broken(),
            redirect: page.redirect.is_some(),
        });
        self.edges
            .extend(page.links.iter().chain(&page.redirect).map(|link| (place, link.clone())));
    }

    /// The links between pages of the crawl.
    fn inner_edges(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.edges.iter().filter_map(|(from, to)| Some((*from, *self.places.get(to)?)))
    }

    /// Writes a .dot or an .svg file. Returns how many pages had no room in it.
    pub(crate) fn write(&self, path: &Path) -> io::Result<usize> {
        if path.extension().is_some_and(|extension| extension == "svg") {
            fs::write(path, self.svg())?;
            return Ok(self.nodes.len().saturating_sub(MOST_DRAWN));
        }
        fs::write(path, self.dot())?;
        Ok(0)
    }

    fn dot(&self) -> String {
        let quoted =
            |text: &str| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""));
        let mut text =
            String::from("digraph crawl {\n  rankdir=LR;\n  node [shape=box, fontsize=10];\n");
        for node in &self.nodes {
            let style = match node {
                Node { broken: true, .. } => " [color=red, fontcolor=red]",
                Node { redirect: true, .. } => " [style=dashed]",
                _ => "",
            };
            let _ = writeln!(text, "  {}{style};", quoted(&node.url));
        }
        for (from, to) in self.inner_edges() {
            let (from, to) = (quoted(&self.nodes[from].url), quoted(&self.nodes[to].url));
            let _ = writeln!(text, "  {from} -> {to};");
        }
        text.push_str("}\n");
        text
    }

    /// The pages on circles, by depth; each shows its address when pointed at.
    fn svg(&self) -> String {
        let drawn = &self.nodes[..self.nodes.len().min(MOST_DRAWN)];
        let mut rings: Vec<Vec<usize>> = Vec::new();
        for (place, node) in drawn.iter().enumerate() {
            let depth = node.depth as usize;
            rings.resize_with(rings.len().max(depth + 1), Vec::new);
            rings[depth].push(place);
        }
        let mut at = vec![(0.0, 0.0); drawn.len()];
        let mut radius = 0.0_f64;
        for ring in &rings {
            // Wide enough that the dots do not touch.
            let wanted = ring.len() as f64 * 14.0 / std::f64::consts::TAU;
            radius = if ring.len() == 1 && radius == 0.0 { 0.0 } else { wanted.max(radius + 60.0) };
            for (n, place) in ring.iter().enumerate() {
                let angle = std::f64::consts::TAU * n as f64 / ring.len() as f64;
                at[*place] = (radius * angle.cos(), radius * angle.sin());
            }
        }
        let half = radius + 40.0;
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"{0:.0} {0:.0} {1:.0} {1:.0}\">\n\
             <rect x=\"{0:.0}\" y=\"{0:.0}\" width=\"{1:.0}\" height=\"{1:.0}\" fill=\"white\"/>\n\
             <g stroke=\"#8aa\" stroke-opacity=\"0.35\" stroke-width=\"0.8\">\n",
            -half,
            2.0 * half
        );
        for (from, to) in self.inner_edges().filter(|(from, to)| from.max(to) < &drawn.len()) {
            let ((x1, y1), (x2, y2)) = (at[from], at[to]);
            let _ = writeln!(text, "<path d=\"M{x1:.1} {y1:.1}L{x2:.1} {y2:.1}\"/>");
        }
        text.push_str("</g>\n");
        for (node, (x, y)) in drawn.iter().zip(&at) {
            let colour = match node {
                Node { broken: true, .. } => "#d33",
                Node { redirect: true, .. } => "#e90",
                Node { depth: 0, .. } => "#06c",
                _ => "#386",
            };
            let url = escaped(&node.url);
            let _ = writeln!(
                text,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{colour}\"><title>{url}</title></circle>"
            );
        }
        text.push_str("</svg>\n");
        text
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_and_links_are_drawn() {
        let mut graph = Graph::default();
        let page = |url: &str, links: &[&str], status| Page {
            url: url.into(),
            status: Some(status),
            depth: u32::from(!links.is_empty()),
            links: links.iter().map(|link| (*link).to_owned()).collect(),
            ..Page::default()
        };
        graph.add(&page("http://a/?x=\"1\"&y", &["http://a/2", "http://elsewhere/"], 200));
        graph.add(&page("http://a/2", &[], 404));
        let dot = graph.dot();
        assert!(dot.contains(r#""http://a/?x=\"1\"&y" -> "http://a/2";"#));
        assert!(dot.contains(r#""http://a/2" [color=red"#) && !dot.contains("elsewhere"));
        let svg = graph.svg();
        assert_eq!((svg.matches("<circle").count(), svg.matches("<path").count()), (2, 1));
        assert!(svg.contains("&quot;1&quot;&amp;y"));
    }
}
