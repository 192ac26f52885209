//! One Rust file as the rules see it: its lines, its tokens, its functions, its public names.
//!
//! Comments are not tokens, and text in string literals and doc comments is one token each, so a
//! rule that looks for `unsafe` is not misled by a sentence about it.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use proc_macro2::{TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, Signature, Visibility};

use crate::Finding;

/// A parsed Rust file.
pub struct Source {
    /// Its path relative to the root.
    pub place: String,
    /// Its text, line by line.
    pub lines: Vec<String>,
    /// Its functions, methods and trait bodies, nested ones too.
    pub functions: Vec<Function>,
    /// The names it makes public: items, fields, variants, methods.
    pub public_names: Vec<Name>,
    /// Every path that occurs, in code, in `use` trees and in the arguments of macros.
    pub paths: Vec<Name>,
    /// Every identifier and punctuation mark, in order; literals are left out.
    pub tokens: Vec<Name>,
    /// The files it includes with `mod name;`.
    pub modules: Vec<Module>,
    /// Lines that exist only in tests.
    test_lines: Vec<RangeInclusive<usize>>,
}

/// Some text and the line it stands on, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// The text.
    pub text: String,
    /// The line.
    pub line: usize,
}

/// A function with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The line of its signature.
    pub line: usize,
    /// Lines from the signature to the closing brace, both counted, comments and blanks too.
    pub n_lines: usize,
}

/// A `mod name;` without a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Module {
    /// Inline modules around it, then its own name.
    pub path: Vec<String>,
    /// The argument of `#[path = "..."]`, if it has one.
    pub file: Option<String>,
    /// Whether it is compiled for tests only.
    pub test: bool,
}

impl Source {
    /// Parses `text`, the content of the file at `place`.
    ///
    /// # Errors
    ///
    /// A finding with the line, if the text is not Rust.
    pub fn parse(place: &str, text: &str) -> Result<Self, Finding> {
        let wrong = |line: usize, message: String| Finding::new(format!("{place}:{line}"), message);
        let stream: TokenStream = text
            .parse()
            .map_err(|failure: proc_macro2::LexError| wrong(1, format!("not Rust: {failure}")))?;
        let file: syn::File = syn::parse2(stream.clone()).map_err(|failure| {
            wrong(failure.span().start().line, format!("not Rust: {failure}"))
        })?;
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut walk = Walk::default();
        if file.attrs.iter().any(is_test) {
            walk.test_lines.push(1..=lines.len());
        }
        walk.visit_file(&file);
        let mut tokens = Vec::new();
        flatten(stream, &mut tokens);
        let mut paths = joined_paths(&tokens);
        paths.append(&mut walk.used);
        Ok(Self {
            place: place.to_owned(),
            lines,
            functions: walk.functions,
            public_names: walk.public_names,
            paths,
            tokens,
            modules: walk.modules,
            test_lines: walk.test_lines,
        })
    }

    /// Whether `line` is compiled for tests only, by an attribute in this file.
    #[must_use]
    pub fn is_test_line(&self, line: usize) -> bool {
        self.test_lines.iter().any(|lines| lines.contains(&line))
    }

    /// How many lines the file has, those of tests not counted.
    #[must_use]
    pub fn n_lines_shipped(&self) -> usize {
        (1..=self.lines.len()).filter(|line| !self.is_test_line(*line)).count()
    }

    /// `place:line`.
    #[must_use]
    pub fn at(&self, line: usize) -> String {
        format!("{}:{line}", self.place)
    }
}

/// Which files are compiled, beginning with `entries`; the value says whether only tests see it.
///
/// # Example
///
/// ```
/// use xtask::source::{Source, reach};
///
/// let lib = Source::parse("src/lib.rs", "#[cfg(test)] mod tests;").unwrap();
/// let tests = Source::parse("src/tests.rs", "").unwrap();
/// let lost = Source::parse("src/lost.rs", "").unwrap();
/// let reached = reach(&["src/lib.rs"], &[lib, tests, lost]);
/// assert_eq!(reached.get("src/tests.rs"), Some(&true));
/// assert_eq!(reached.get("src/lost.rs"), None);
/// ```
#[must_use]
pub fn reach(entries: &[&str], sources: &[Source]) -> BTreeMap<String, bool> {
    let mut reached = BTreeMap::new();
    let mut waiting: Vec<(String, bool)> =
        entries.iter().map(|entry| ((*entry).to_owned(), false)).collect();
    while let Some((place, test)) = waiting.pop() {
        let Some(source) = sources.iter().find(|source| source.place == place) else { continue };
        let is_entry = entries.contains(&place.as_str());
        if reached.get(&place).is_some_and(|known: &bool| !known || test) {
            continue;
        }
        reached.insert(place.clone(), test);
        for module in &source.modules {
            for candidate in candidates(&place, is_entry, module) {
                waiting.push((candidate, test || module.test));
            }
        }
    }
    reached
}

/// Where the file of `module` may lie when `place` declares it.
fn candidates(place: &str, is_entry: bool, module: &Module) -> Vec<String> {
    let (folder, file) = place.rsplit_once('/').unwrap_or(("", place));
    if let Some(file) = &module.file {
        return vec![format!("{folder}/{file}")];
    }
    let stem = file.trim_end_matches(".rs");
    let inside =
        if is_entry || stem == "mod" { folder.to_owned() } else { format!("{folder}/{stem}") };
    let path = module.path.join("/");
    vec![format!("{inside}/{path}.rs"), format!("{inside}/{path}/mod.rs")]
}

/// Whether an attribute keeps what it stands on out of everything but tests.
fn is_test(attribute: &Attribute) -> bool {
    if attribute.path().is_ident("test") {
        return true;
    }
    let syn::Meta::List(list) = &attribute.meta else { return false };
    let mut tokens = Vec::new();
    flatten(list.tokens.clone(), &mut tokens);
    let has = |word: &str| tokens.iter().any(|token| token.text == word);
    attribute.path().is_ident("cfg") && has("test") && !has("not")
}

fn flatten(stream: TokenStream, out: &mut Vec<Name>) {
    for tree in stream {
        let line = tree.span().start().line;
        match tree {
            TokenTree::Ident(ident) => out.push(Name { text: ident.to_string(), line }),
            TokenTree::Punct(punct) => {
                out.push(Name { text: punct.as_char().to_string(), line });
            }
            TokenTree::Group(group) => {
                let (open, close) = match group.delimiter() {
                    proc_macro2::Delimiter::Parenthesis => ("(", ")"),
                    proc_macro2::Delimiter::Brace => ("{", "}"),
                    proc_macro2::Delimiter::Bracket => ("[", "]"),
                    proc_macro2::Delimiter::None => ("", ""),
                };
                out.push(Name { text: open.to_owned(), line });
                flatten(group.stream(), out);
                out.push(Name { text: close.to_owned(), line: group.span_close().start().line });
            }
            TokenTree::Literal(_) => {}
        }
    }
}

/// `a :: b :: c` as one name, for every such sequence of tokens.
fn joined_paths(tokens: &[Name]) -> Vec<Name> {
    let is_word = |token: &Name| token.text.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let mut paths: Vec<Name> = Vec::new();
    let mut idx = 0;
    while idx < tokens.len() {
        if !is_word(&tokens[idx]) {
            idx += 1;
            continue;
        }
        let mut path = tokens[idx].clone();
        while let Some([first, second, next]) = tokens.get(idx + 1..idx + 4) {
            if first.text != ":" || second.text != ":" || !is_word(next) {
                break;
            }
            path.text = format!("{}::{}", path.text, next.text);
            idx += 3;
        }
        idx += 1;
        paths.push(path);
    }
    paths
}

/// What one pass over the syntax tree collects.
#[derive(Default)]
struct Walk {
    functions: Vec<Function>,
    public_names: Vec<Name>,
    used: Vec<Name>,
    modules: Vec<Module>,
    test_lines: Vec<RangeInclusive<usize>>,
    /// Names of the inline modules around the item being visited.
    around: Vec<String>,
    /// How many of them are for tests only.
    n_test_around: usize,
}

impl Walk {
    fn mark_test(&mut self, attributes: &[Attribute], item: &impl Spanned) -> bool {
        let test = attributes.iter().any(is_test);
        if test {
            let span = item.span();
            self.test_lines.push(span.start().line..=span.end().line);
        }
        test
    }

    fn name(&mut self, visibility: &Visibility, ident: &syn::Ident) {
        if matches!(visibility, Visibility::Public(_)) {
            self.publish(ident);
        }
    }

    fn publish(&mut self, ident: &syn::Ident) {
        let line = ident.span().start().line;
        self.public_names.push(Name { text: ident.to_string(), line });
    }

    fn function(&mut self, signature: &Signature, body: &syn::Block) {
        let line = signature.span().start().line;
        let n_lines = body.span().end().line + 1 - line;
        self.functions.push(Function { name: signature.ident.to_string(), line, n_lines });
    }

    fn use_tree(&mut self, before: &str, tree: &syn::UseTree) {
        let mut leaf = |ident: &syn::Ident| {
            let line = ident.span().start().line;
            self.used.push(Name { text: format!("{before}{ident}"), line });
        };
        match tree {
            syn::UseTree::Path(path) => {
                self.use_tree(&format!("{before}{}::", path.ident), &path.tree);
            }
            syn::UseTree::Name(name) => leaf(&name.ident),
            syn::UseTree::Rename(rename) => leaf(&rename.ident),
            syn::UseTree::Glob(glob) => {
                let line = glob.span().start().line;
                self.used.push(Name { text: format!("{before}*"), line });
            }
            syn::UseTree::Group(group) => {
                group.items.iter().for_each(|tree| self.use_tree(before, tree));
            }
        }
    }
}

impl<'ast> Visit<'ast> for Walk {
    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let test = self.mark_test(&item.attrs, item);
        self.name(&item.vis, &item.ident);
        self.around.push(item.ident.to_string());
        self.n_test_around += usize::from(test);
        if item.content.is_none() {
            let file = item.attrs.iter().find_map(path_argument);
            let module = Module { path: self.around.clone(), file, test: self.n_test_around > 0 };
            self.modules.push(module);
        }
        visit::visit_item_mod(self, item);
        self.n_test_around -= usize::from(test);
        self.around.pop();
    }

    fn visit_item_fn(&mut self, item: &'ast syn::ItemFn) {
        self.mark_test(&item.attrs, item);
        self.name(&item.vis, &item.sig.ident);
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.mark_test(&item.attrs, item);
        self.name(&item.vis, &item.sig.ident);
        self.function(&item.sig, &item.block);
        visit::visit_impl_item_fn(self, item);
    }

    fn visit_item_impl(&mut self, item: &'ast syn::ItemImpl) {
        self.mark_test(&item.attrs, item);
        visit::visit_item_impl(self, item);
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.mark_test(&item.attrs, item);
        self.use_tree("", &item.tree);
    }

    fn visit_item_trait(&mut self, item: &'ast syn::ItemTrait) {
        self.name(&item.vis, &item.ident);
        for member in &item.items {
            if let syn::TraitItem::Fn(function) = member {
                self.name(&item.vis, &function.sig.ident);
                if let Some(body) = &function.default {
                    self.function(&function.sig, body);
                }
            }
        }
        visit::visit_item_trait(self, item);
    }

    fn visit_item_struct(&mut self, item: &'ast syn::ItemStruct) {
        self.name(&item.vis, &item.ident);
        visit::visit_item_struct(self, item);
    }

    fn visit_field(&mut self, field: &'ast syn::Field) {
        if let Some(ident) = &field.ident {
            self.name(&field.vis, ident);
        }
        visit::visit_field(self, field);
    }

    fn visit_item_enum(&mut self, item: &'ast syn::ItemEnum) {
        self.name(&item.vis, &item.ident);
        if matches!(item.vis, Visibility::Public(_)) {
            item.variants.iter().for_each(|variant| self.publish(&variant.ident));
        }
        visit::visit_item_enum(self, item);
    }

    fn visit_item_const(&mut self, item: &'ast syn::ItemConst) {
        self.name(&item.vis, &item.ident);
        visit::visit_item_const(self, item);
    }

    fn visit_item_static(&mut self, item: &'ast syn::ItemStatic) {
        self.name(&item.vis, &item.ident);
        visit::visit_item_static(self, item);
    }

    fn visit_item_type(&mut self, item: &'ast syn::ItemType) {
        self.name(&item.vis, &item.ident);
        visit::visit_item_type(self, item);
    }
}

/// The argument of `#[path = "..."]`.
fn path_argument(attribute: &Attribute) -> Option<String> {
    let syn::Meta::NameValue(pair) = &attribute.meta else { return None };
    let syn::Expr::Lit(literal) = &pair.value else { return None };
    let syn::Lit::Str(text) = &literal.lit else { return None };
    pair.path.is_ident("path").then(|| text.value())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source::parse("src/lib.rs", text).unwrap()
    }

    #[test]
    fn a_function_is_as_long_as_a_reader_sees_it() {
        let text = "/// Text.\nfn long(\n    a: u8,\n) {\n    // why\n\n    drop(a);\n}\n";
        let functions = source(text).functions;
        assert_eq!(functions, [Function { name: "long".into(), line: 2, n_lines: 7 }]);
    }

    #[test]
    fn lines_of_tests_are_not_counted_as_shipped() {
        let text = "fn ships() {}\n#[cfg(test)]\nmod tests {\n    #[test]\n    fn t() {}\n}\n";
        let source = source(text);
        assert_eq!(source.n_lines_shipped(), 1);
        assert!(!source.is_test_line(1) && source.is_test_line(2) && source.is_test_line(6));
        assert_eq!(self::source("#[cfg(not(test))]\nfn ships() {}\n").n_lines_shipped(), 2);
    }

    #[test]
    fn paths_are_found_in_code_in_macros_and_in_use_trees() {
        let text = "use std::{net::TcpStream, time as t};\n\
                    fn f() { assert!(std::time::Instant::now() > x); }\n\
                    /// std::doc::only\n// std::comment::only\nconst A: &str = \"std::text\";";
        let paths: Vec<String> = source(text).paths.into_iter().map(|path| path.text).collect();
        for expected in ["std::net::TcpStream", "std::time", "std::time::Instant::now"] {
            assert!(paths.iter().any(|path| path == expected), "{expected} in {paths:?}");
        }
        for absent in ["std::doc::only", "std::comment::only", "std::text"] {
            assert!(!paths.iter().any(|path| path == absent), "{absent} in {paths:?}");
        }
    }

    #[test]
    fn public_names_are_those_another_crate_could_meet() {
        let text = "pub struct S { pub a: u8, b: u8 }\npub enum E { V }\nenum P { W }\n\
                    pub trait T { fn m(&self) {} }\nimpl S { pub fn n() {} fn o() {} }\n\
                    pub(crate) fn q() {}\npub const C: u8 = 0;";
        let names: Vec<String> = source(text).public_names.into_iter().map(|n| n.text).collect();
        assert_eq!(names, ["S", "a", "E", "V", "T", "m", "n", "C"]);
    }

    #[test]
    fn modules_are_followed_to_their_files() {
        let lib = source("mod a;\nmod inline { mod b; }\n#[path = \"elsewhere.rs\"]\nmod c;");
        let a = Source::parse("src/a.rs", "mod deep;").unwrap();
        let others = ["src/a/deep.rs", "src/inline/b.rs", "src/elsewhere.rs", "src/stray.rs"];
        let mut sources = vec![lib, a];
        sources.extend(others.map(|place| Source::parse(place, "").unwrap()));
        let reached: Vec<String> = reach(&["src/lib.rs"], &sources).into_keys().collect();
        assert_eq!(
            reached,
            ["src/a.rs", "src/a/deep.rs", "src/elsewhere.rs", "src/inline/b.rs", "src/lib.rs"]
        );
    }

    #[test]
    fn text_that_is_not_rust_is_a_finding_with_a_line() {
        let finding = Source::parse("src/lib.rs", "\nfn (").err().unwrap();
        assert!(finding.place.starts_with("src/lib.rs:"), "{finding}");
        assert!(finding.message.contains("not Rust"), "{finding}");
    }
}
