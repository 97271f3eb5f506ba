//! Finds the paths of its own crate that a Rust file names, and the methods of its own types that it calls.
//! Checks nothing.

use std::collections::{BTreeMap, BTreeSet};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{
    Attribute, ExprMethodCall, File, ImplItem, Item, ItemImpl, ItemMod, ItemUse, Macro, Path, UseTree,
    visit::{self, Visit},
};

/// The names in one file.
#[derive(Debug, Default)]
pub struct Names {
    /// Paths from the crate's root: `api::types::Port` for `crate::api::types::Port`, also if the source has
    /// `super::types::Port`, or imports `types` and has `types::Port`.
    pub paths: BTreeSet<String>,
    /// The methods in the `impl` blocks of the file, by type.
    pub methods: BTreeMap<String, BTreeSet<String>>,
    /// Methods that are called on `self`, by the type of the `impl` block around the call.
    pub calls: BTreeMap<String, BTreeSet<String>>,
    /// Methods that are called on a variable, or on a field, by its name.
    pub calls_on: BTreeMap<String, BTreeSet<String>>,
}

/// Parses the text of a file; `module` is its module, for example `api::server`.
pub fn read(text: &str, module: &str) -> syn::Result<Names> {
    let file = syn::parse_file(text)?;
    let mut reader = Reader { module: parts(module), ..Reader::default() };
    reader.visit_file(&file);
    // An imported module is represented by the names that are used of it.
    let Reader { mut names, imported, used, .. } = reader;
    names.paths.extend(imported.into_iter().filter(|path| !used.contains(path)));
    Ok(names)
}

#[derive(Default)]
struct Reader {
    names: Names,
    /// The current module.
    module: Vec<String>,
    /// The type of the current `impl` block.
    implemented: Option<String>,
    /// The meaning of the first name of a path: one scope for each module around.
    scopes: Vec<BTreeMap<String, Vec<String>>>,
    imported: BTreeSet<String>,
    /// Imported modules of which something is named.
    used: BTreeSet<String>,
}

impl Reader {
    fn scope(&mut self, items: &[Item], visit: impl FnOnce(&mut Self)) {
        let mut scope = BTreeMap::new();
        for item in items {
            if let Item::Mod(ItemMod { ident, .. }) = item {
                scope.insert(ident.to_string(), [&*self.module, &[ident.to_string()]].concat());
            }
        }
        self.scopes.push(scope);
        let uses = items.iter().filter_map(|item| if let Item::Use(item) = item { Some(item) } else { None });
        uses.for_each(|item| self.import(&item.tree, &[]));
        visit(self);
        self.scopes.pop();
    }

    fn import(&mut self, tree: &UseTree, above: &[String]) {
        let joined = |name: &syn::Ident| [above, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.import(&path.tree, &joined(&path.ident)),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.import(tree, above)),
            UseTree::Glob(_) => self.name_imported(None, above.to_vec()),
            UseTree::Name(name) if name.ident == "self" => {
                self.name_imported(above.last().cloned(), above.to_vec());
            }
            UseTree::Name(name) => self.name_imported(Some(name.ident.to_string()), joined(&name.ident)),
            UseTree::Rename(rename) => {
                self.name_imported(Some(rename.rename.to_string()), joined(&rename.ident))
            }
        }
    }

    fn name_imported(&mut self, name: Option<String>, path: Vec<String>) {
        let Some(absolute) = self.absolute(&path) else { return };
        self.imported.insert(absolute.join("::"));
        if let (Some(name), Some(scope)) = (name, self.scopes.last_mut()) {
            scope.insert(name, absolute);
        }
    }

    /// A path from the crate's root; none if it is of another crate, or local.
    fn absolute(&self, path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        let base = match first.as_str() {
            "crate" => Vec::new(),
            "self" => self.module.clone(),
            "super" => {
                let supers = 1 + rest.iter().take_while(|name| *name == "super").count();
                let above = self.module.len().checked_sub(supers)?;
                return Some([&self.module[..above], &rest[supers - 1..]].concat());
            }
            name => self.scopes.last()?.get(name)?.clone(),
        };
        Some([&*base, rest].concat())
    }

    /// Adds a path in an expression, a type, a pattern or a macro. A single name was imported, and is counted
    /// there.
    fn path(&mut self, path: &[String]) {
        if path.len() < 2 {
            return;
        }
        if let Some(absolute) = self.absolute(path) {
            let base = absolute[..absolute.len() + 1 - path.len()].join("::");
            self.used.insert(base);
            self.names.paths.insert(absolute.join("::"));
        }
    }

    fn call(&mut self, receiver: &str, method: &str) {
        match &self.implemented {
            Some(of) if receiver == "self" => self.names.calls.entry(of.clone()),
            _ => self.names.calls_on.entry(receiver.to_owned()),
        }
        .or_default()
        .insert(method.to_owned());
    }

    /// The content of a macro has no syntax tree: finds paths and calls in its tokens.
    fn tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        let is = |at: usize, wanted: char| matches!(tokens.get(at), Some(TokenTree::Punct(punct)) if punct.as_char() == wanted);
        let ident = |at: usize| match tokens.get(at) {
            Some(TokenTree::Ident(ident)) => Some(ident.to_string()),
            _ => None,
        };
        let mut at = 0;
        while at < tokens.len() {
            if let TokenTree::Group(group) = &tokens[at] {
                self.tokens(group.stream());
            }
            let mut path: Vec<String> = ident(at).into_iter().collect();
            at += 1;
            while !path.is_empty() && is(at, ':') && is(at + 1, ':') {
                let Some(name) = ident(at + 2) else { break };
                path.push(name);
                at += 3;
            }
            if let (Some(receiver), true, Some(method), Some(TokenTree::Group(group))) =
                (path.last(), is(at, '.'), ident(at + 1), tokens.get(at + 2))
                && group.delimiter() == Delimiter::Parenthesis
            {
                self.call(receiver, &method);
            }
            self.path(&path);
        }
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_file(&mut self, file: &'ast File) {
        self.scope(&file.items, |reader| visit::visit_file(reader, file));
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let Some((_, items)) = &item.content else { return };
        self.module.push(item.ident.to_string());
        self.scope(items, |reader| visit::visit_item_mod(reader, item));
        self.module.pop();
    }

    /// Imports in a function; [`Reader::scope`] has read the others.
    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.import(&item.tree, &[]);
    }

    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        let of = match &*item.self_ty {
            syn::Type::Path(path) => path.path.segments.last().map(|segment| segment.ident.to_string()),
            _ => None,
        };
        if let (Some(of), None) = (&of, &item.trait_) {
            let methods = item.items.iter().filter_map(|item| match item {
                ImplItem::Fn(function) => Some(function.sig.ident.to_string()),
                _ => None,
            });
            self.names.methods.entry(of.clone()).or_default().extend(methods);
        }
        let around = std::mem::replace(&mut self.implemented, of);
        visit::visit_item_impl(self, item);
        self.implemented = around;
    }

    fn visit_expr_method_call(&mut self, call: &'ast ExprMethodCall) {
        let receiver = match &*call.receiver {
            syn::Expr::Path(path) => path.path.get_ident().map(ToString::to_string),
            syn::Expr::Field(field) => match &field.member {
                syn::Member::Named(name) => Some(name.to_string()),
                syn::Member::Unnamed(_) => None,
            },
            _ => None,
        };
        if let Some(receiver) = receiver {
            self.call(&receiver, &call.method.to_string());
        }
        visit::visit_expr_method_call(self, call);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        let names: Vec<String> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        if path.leading_colon.is_none() {
            self.path(&names);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        self.tokens(item.tokens.clone());
        visit::visit_macro(self, item);
    }

    /// Attributes may contain paths: `#[serde(with = "crate::model::text")]`.
    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        if let syn::Meta::List(list) = &attribute.meta {
            for token in list.tokens.clone() {
                if let Ok(text) = syn::parse2::<syn::LitStr>(token.into()) {
                    self.path(&parts(&text.value()));
                }
            }
        }
    }
}

fn parts(path: &str) -> Vec<String> {
    path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[test]
fn paths_are_read_from_imports_expressions_and_macros() {
    let text = r#"
        use crate::{link::{self, Veth}, model::MacAddr, api::types::{Network as Net, Port}, store};
        pub use self::below::Thing; use super::{beside, uncle::Aunt}; mod below;
        #[serde(with = "crate::plan::text")] struct S(below::Other);
        fn f(n: Net) { let x = crate::dns::zone::Zone::default(); link::list(); info!("{}", beside::get(1)); }
        mod tests { use super::*; use super::super::cousin; fn g() { cousin::h(); other_crate::not(); } }"#;
    let expected = [
        "api::server",
        "api::server::below::Other",
        "api::server::below::Thing",
        "api::beside::get",
        "api::cousin::h",
        "api::types::Network",
        "api::types::Port",
        "api::uncle::Aunt",
        "dns::zone::Zone::default",
        "link::Veth",
        "link::list",
        "model::MacAddr",
        "plan::text",
        "store",
    ];
    let names = read(text, "api::server").expect("Rust");
    assert_eq!(names.paths, expected.into_iter().map(str::to_owned).collect());
}

#[test]
fn methods_are_read_with_their_type_and_calls_with_their_receiver() {
    let text = "
        impl Daemon { fn a(&self) { self.b(); info!(x = self.c(1)); daemon.d().e(); self.feed.send(); } }
        impl Display for Daemon { fn fmt(&self) { self.a() } }";
    let names = read(text, "daemon").expect("Rust");
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(names.methods, [("Daemon".to_owned(), set(&["a"]))].into());
    assert_eq!(names.calls, [("Daemon".to_owned(), set(&["a", "b", "c"]))].into());
    assert_eq!(
        names.calls_on,
        [("daemon".to_owned(), set(&["d"])), ("feed".to_owned(), set(&["send"]))].into()
    );
}
