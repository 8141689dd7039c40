//! The text of a kernel that is several small ones, block by block.

use std::fmt::Write;

use kernels_cuda::Instance;

use crate::arguments::Kind;
use crate::loops;
use crate::program::Kernel;

/// Parts, one after the other.
#[derive(Default)]
pub(crate) struct Parts {
    names: Vec<String>,
    includes: Vec<&'static str>,
    /// What parts do, and for how many, one after the other, that is the same.
    texts: Vec<(Text, usize)>,
}

/// What a part does.
#[derive(PartialEq, Eq)]
struct Text {
    preface: String,
    body: String,
    /// The names of its words.
    words: Vec<String>,
}

impl Parts {
    /// Adds `instance`, to which words are `passed`: by place, and as what.
    pub(crate) fn add(&mut self, name: &str, instance: &Instance, passed: &[(usize, Kind)]) {
        self.names.push(name.to_owned());
        self.includes.extend(&instance.includes);
        let mut body: String = passed.iter().map(|(i, kind)| kind.preface(*i)).collect();
        if !instance.waits {
            body += "  wait_for_earlier();\n  let_later_start();\n";
        }
        let given = instance.body.replace("blockIdx.x", "block").replace("gridDim.x", "blocks");
        let _ = writeln!(body, "  {}", given.trim());
        let words = passed.iter().flat_map(|(i, kind)| kind.names(*i)).collect();
        let text = Text { preface: instance.preface.clone(), body, words };
        match self.texts.last_mut().filter(|it| it.0 == text) {
            Some((_, parts)) => *parts += 1,
            None => self.texts.push((text, 1)),
        }
    }

    /// The kernel. Behind the words of all parts it is told where each ends.
    pub(crate) fn finish(mut self) -> Kernel {
        self.includes.sort_unstable();
        self.includes.dedup();
        let includes: String =
            self.includes.iter().map(|it| format!("#include \"{it}\"\n")).collect();
        let (mut functions, mut parameters, mut calls) =
            (String::new(), String::new(), String::new());
        let mut first = 0;
        for (text, parts) in &self.texts {
            functions += &text.function(first);
            for part in first..first + parts {
                parameters.extend(text.words.iter().map(|it| format!(", long p{part}_{it}")));
            }
            calls += &text.call(first, *parts);
            first += parts;
        }
        let ends: String = (0..first).map(|it| format!(", long end{it}")).collect();
        let source = format!(
            "{includes}\n{functions}extern \"C\" __global__ void __launch_bounds__({})\n\
             run(const long* past{parameters}{ends}) {{\n  const long block = blockIdx.x;\n{calls}}}\n",
            loops::THREADS,
        );
        let (name, entry) = (self.names.join(" "), "run".to_owned());
        Kernel { name, entry, source, threads: loops::THREADS, ..Kernel::default() }
    }
}

impl Text {
    /// What parts from `first` on do.
    fn function(&self, first: usize) -> String {
        let Text { preface, body, words } = self;
        let words: String = words.iter().map(|it| format!(", long {it}")).collect();
        format!(
            "namespace part{first} {{\n{preface}__device__ __forceinline__ void run(const long* \
             past, int block, int blocks{words}) {{\n{body}}}\n}}  // namespace part{first}\n\n"
        )
    }

    /// The one call for `parts` of them, with the words of the one that has the block.
    fn call(&self, first: usize, parts: usize) -> String {
        let mut call = format!("  if (block < end{}) {{\n", first + parts - 1);
        let begin = |part: usize| match part {
            0 => "0".to_owned(),
            _ => format!("end{}", part - 1),
        };
        for part in first..first + parts {
            let given = |it: &String| format!(", {it} = p{part}_{it}");
            let given: String = self.words.iter().map(given).collect();
            let when = match part == first {
                true => "    long ".to_owned(),
                false => format!("    if ({} <= block) ", begin(part)),
            };
            let _ = writeln!(call, "{when}from = {}, to = end{part}{given};", begin(part));
        }
        let words: String = self.words.iter().map(|it| format!(", {it}")).collect();
        let _ = writeln!(
            call,
            "    return part{first}::run(past, (int)(block - from), (int)(to - from){words});\n  }}"
        );
        call
    }
}
