//! What a spec says, as written. Every part knows its place; nothing is resolved.

use crate::source::Span;

/// A word and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// As written; a text without its quotes.
    pub text: String,
    /// Where.
    pub span: Span,
}

/// One file.
#[derive(Clone, Debug, Default)]
pub struct Spec {
    /// In the order of the text.
    pub items: Vec<Item>,
}

/// What stands at the top level.
#[derive(Clone, Debug)]
pub enum Item {
    /// `use prelude`
    Use(Name),
    /// `axis E = 576, S <= 8192`
    Axes(Vec<AxisDecl>),
    /// `value eps = 1e-5`
    Values(Vec<ValueDecl>),
    /// `fn`, `inline fn`, `block` or `model`
    Function(Function),
    /// `weights hf { ... }`
    Weights(Weights),
    /// `tokenizer "tokenizer.json"`
    Tokenizer(Name),
    /// `train { loss = ... }`
    Train(Vec<Setting>),
}

/// One axis of an `axis` declaration.
#[derive(Clone, Debug)]
pub struct AxisDecl {
    /// Its name.
    pub name: Name,
    /// What it is.
    pub extent: Extent,
    /// Smaller extents that the axis may be sliced to.
    pub elastic: Vec<Expr>,
}

/// How an axis is declared.
#[derive(Clone, Debug)]
pub enum Extent {
    /// `= 576`, `= P / 2`, `= S`
    Is(Expr),
    /// `<= 8192`: known at run time.
    AtMost(Expr),
}

/// One scalar of a `value` declaration.
#[derive(Clone, Debug)]
pub struct ValueDecl {
    /// Its name.
    pub name: Name,
    /// Its default.
    pub value: Expr,
}

/// How a function may be called and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FunctionKind {
    /// Stays a function.
    Plain,
    /// Is expanded where it is called.
    Inline,
    /// Owns parameters; stands once for all its layers.
    Block,
    /// The entry.
    Model,
}

/// A function, block or model.
#[derive(Clone, Debug)]
pub struct Function {
    /// Which of the four.
    pub kind: FunctionKind,
    /// Its name.
    pub name: Name,
    /// What it takes.
    pub params: Vec<Param>,
    /// What it gives, if said: a shape, or a tuple of shapes.
    pub result: Option<Expr>,
    /// What it does.
    pub body: Vec<Stmt>,
}

/// Something a function takes, or a weight of a block.
#[derive(Clone, Debug)]
pub struct Param {
    /// Its name.
    pub name: Name,
    /// The axes of a tensor; a scalar or an option has none.
    pub shape: Option<Vec<Expr>>,
    /// `: i32`
    pub dtype: Option<Name>,
    /// `= 1e-5`
    pub default: Option<Expr>,
}

/// A statement with its place.
#[derive(Clone, Debug)]
pub struct Stmt {
    /// What it is.
    pub kind: StmtKind,
    /// Where.
    pub span: Span,
}

/// The statements.
#[derive(Clone, Debug)]
pub enum StmtKind {
    /// `param norm[E], q[K*P, E]`
    Params(Vec<Param>),
    /// `axis T = S`
    Axes(Vec<AxisDecl>),
    /// `let a, b = f(x)`
    Let(Vec<Name>, Expr),
    /// `x = attention(x)`: a new value for a name, in `layers`.
    Set(Name, Expr),
    /// `layers L { ... }`
    Layers(Layers),
    /// The value of the body.
    Value(Expr),
}

/// A stack of layers.
#[derive(Clone, Debug)]
pub struct Layers {
    /// An axis, a pattern text, or a value that holds one.
    pub over: Expr,
    /// `as encoder`: what paths call it in place of `layers`.
    pub label: Option<Name>,
    /// One body, or one for each letter of the pattern.
    pub body: LayersBody,
}

/// What is repeated.
#[derive(Clone, Debug)]
pub enum LayersBody {
    /// The same for each layer.
    Same(Vec<Stmt>),
    /// One for each letter.
    Pattern(Vec<Branch>),
}

/// What a letter of a pattern stands for.
#[derive(Clone, Debug)]
pub struct Branch {
    /// The letter, or several that share the body.
    pub letters: Name,
    /// Its layer.
    pub body: Vec<Stmt>,
}

/// An expression with its place: of a value, of an axis or of source tensors, as its context says.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where.
    pub span: Span,
    /// Levels of expressions in it, itself among them; the parser keeps it small, so that
    /// everything that walks an expression may recurse.
    pub height: u8,
}

/// The expressions.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// `1e-5`
    Number(f64),
    /// `"model.norm.weight"`, without its quotes
    Text(String),
    /// `x`
    Name(String),
    /// `E`
    Axis(String),
    /// `..`, the remaining axes
    Rest,
    /// `-x`, `not x`
    Unary(Unary, Box<Expr>),
    /// `a * b`
    Binary(Binary, Box<(Expr, Expr)>),
    /// `[K, G, P]`
    List(Vec<Expr>),
    /// `(a, b)`
    Tuple(Vec<Expr>),
    /// `linear(x, w)`
    Call(Box<Call>),
    /// `embed[tokens]`
    Index(Box<(Expr, Vec<Expr>)>),
    /// `if a == b { x } else { y }`, decided by the compiler
    If(Box<If>),
    /// `scan S { h = h * a + x  h }`
    Scan(Box<Scan>),
}

/// A call.
#[derive(Clone, Debug)]
pub struct Call {
    /// Function, block or primitive.
    pub callee: Name,
    /// `as cross`: what paths call this use of a block.
    pub label: Option<Name>,
    /// In the order of the text.
    pub args: Vec<Arg>,
}

/// An argument.
#[derive(Clone, Debug)]
pub struct Arg {
    /// `mask =`
    pub name: Option<Name>,
    /// What is passed.
    pub value: Expr,
}

/// A choice by what the compiler knows.
#[derive(Clone, Debug)]
pub struct If {
    /// Over scalars and options.
    pub condition: Expr,
    /// When it holds.
    pub then: Vec<Stmt>,
    /// When it does not.
    pub otherwise: Vec<Stmt>,
}

/// A recurrence.
#[derive(Clone, Debug)]
pub struct Scan {
    /// The axis to run along.
    pub over: Name,
    /// One step.
    pub body: Vec<Stmt>,
}

/// Operators of one operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// `-`
    Minus,
    /// `not`
    Not,
}

/// Operators of two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is its own name")]
pub enum Binary {
    Becomes,
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    Range,
    Concat,
    Add,
    Subtract,
    Multiply,
    Divide,
}

impl Binary {
    /// Every operator with its symbol and how tightly it binds.
    pub const ALL: [(Binary, &'static str, u8); 15] = [
        (Binary::Becomes, "->", 1),
        (Binary::Or, "or", 2),
        (Binary::And, "and", 3),
        (Binary::Equal, "==", 4),
        (Binary::NotEqual, "!=", 4),
        (Binary::Less, "<", 4),
        (Binary::LessEqual, "<=", 4),
        (Binary::Greater, ">", 4),
        (Binary::GreaterEqual, ">=", 4),
        (Binary::Range, "..", 5),
        (Binary::Concat, "|", 6),
        (Binary::Add, "+", 7),
        (Binary::Subtract, "-", 7),
        (Binary::Multiply, "*", 8),
        (Binary::Divide, "/", 8),
    ];

    /// The symbol.
    pub fn symbol(self) -> &'static str {
        Self::ALL[self as usize].1
    }
}

/// Where each parameter's numbers come from in checkpoints of one format.
#[derive(Clone, Debug)]
pub struct Weights {
    /// `hf`, `gguf`
    pub format: Name,
    /// In the order of the text.
    pub rules: Vec<WeightRule>,
}

/// `layers[l].attention.q = "model.layers.{l}.self_attn.q_proj.weight"`
#[derive(Clone, Debug)]
pub struct WeightRule {
    /// The parameter, or parameters that split the source among them.
    pub path: Vec<Segment>,
    /// Over names of source tensors.
    pub source: Expr,
    /// Where.
    pub span: Span,
}

/// A part of a path.
#[derive(Clone, Debug)]
pub enum Segment {
    /// `.attention`
    Name(Name),
    /// `[l]`
    Layer(Name),
    /// `.{a, b}`
    Group(Vec<Name>),
}

/// `optimizer = adamw(...)`
#[derive(Clone, Debug)]
pub struct Setting {
    /// Which.
    pub name: Name,
    /// What.
    pub value: Expr,
}
