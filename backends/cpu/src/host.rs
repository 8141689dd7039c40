//! The host program: the plan as machine code.
//!
//! Every thread runs it with the same frame. Launches between two barriers do not touch what
//! another of them writes: they are cut into pieces, which threads take as they come free, so that
//! one that is slower for a moment does less. For a piece a thread computes addresses and extents,
//! writes the launch's words to its stack and calls.

use cranelift_codegen::ir::{
    AbiParam, AtomicRmwOp, ExtFuncData, ExternalName, FuncRef, Function as Clif, InstBuilder,
    MemFlagsData, SigRef, Signature, StackSlotData, StackSlotKind, UserExternalName, UserFuncName,
    Value, condcodes::IntCC, types::I64,
};
use cranelift_codegen::isa::{CallConv, TargetIsa};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext, Variable};
use ir::{Axis, Module, Name};
use std::collections::BTreeMap;

use crate::extent::Extents;
use plan::{Base, Callee, Counter, Launch, Place, Plan, Step, Stride, Word};

/// Words of `runtime::abi::Frame`.
mod frame {
    pub(super) const BARRIER: i32 = 0;
    pub(super) const KERNELS: i32 = 8;
    pub(super) const WEIGHTS: i32 = 16;
    pub(super) const CONSTANTS: i32 = 24;
    pub(super) const ARENA: i32 = 32;
    pub(super) const STATES: i32 = 40;
    pub(super) const INPUTS: i32 = 48;
    pub(super) const OUTPUTS: i32 = 56;
    pub(super) const EXTENTS: i32 = 64;
    pub(super) const SCRATCH: i32 = 72;
    pub(super) const SCRATCH_STRIDE: i32 = 80;
    pub(super) const PIECES: i32 = 88;
    pub(super) const TICKETS: i32 = 96;
}

/// Bytes of a `runtime::abi::WeightRef`.
const WEIGHT_REF: i64 = 16;

/// The code of `plan`. It calls loop `i` as the user function `i` of namespace 0.
pub(crate) fn generate(module: &Module, plan: &Plan, isa: &dyn TargetIsa) -> Clif {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params.extend([AbiParam::new(I64); 3]);
    let mut clif = Clif::with_name_signature(UserFuncName::default(), signature.clone());
    let mut context = FunctionBuilderContext::new();
    let mut b = FunctionBuilder::new(&mut clif, &mut context);
    let block = b.create_block();
    b.append_block_params_for_function_params(block);
    b.switch_to_block(block);
    let [frame, thread, threads] = b.block_params(block)[..] else { unreachable!("three words") };
    let kernel = b.import_signature(signature);
    let mut barrier = Signature::new(CallConv::SystemV);
    barrier.params.extend([AbiParam::new(I64); 2]);
    let barrier = b.import_signature(barrier);
    let n_words = longest(&plan.steps) as u32;
    let data = StackSlotData::new(StackSlotKind::ExplicitSlot, 8 * n_words.max(1), 3);
    let slot = b.create_sized_stack_slot(data);
    let words = b.ins().stack_addr(I64, slot, 0);
    let flags = MemFlagsData::trusted().with_readonly();
    let pieces = b.ins().load(I64, flags, frame, frame::PIECES);
    let drawn = b.declare_var(I64);
    let none = b.ins().iconst(I64, 0);
    b.def_var(drawn, none);
    let mut host = Host {
        b,
        module,
        plan,
        frame,
        thread,
        threads,
        pieces,
        drawn,
        words,
        kernel,
        barrier,
        counters: BTreeMap::new(),
    };
    host.steps(&plan.steps);
    let mut b = host.b;
    b.ins().return_(&[]);
    b.seal_all_blocks();
    b.finalize(isa.frontend_config());
    clif
}

fn longest(steps: &[Step]) -> usize {
    let length = |it: &Step| match it {
        Step::Barrier => 0,
        Step::Launch(launch) => launch.words.len(),
        Step::Loop { steps, .. } => longest(steps),
    };
    steps.iter().map(length).max().unwrap_or(0)
}

struct Host<'a> {
    b: FunctionBuilder<'a>,
    module: &'a Module,
    plan: &'a Plan,
    frame: Value,
    thread: Value,
    threads: Value,
    /// Pieces that a launch is cut into.
    pieces: Value,
    /// Tickets that were drawn before the launches since the last barrier.
    drawn: Variable,
    words: Value,
    kernel: SigRef,
    barrier: SigRef,
    counters: BTreeMap<usize, Value>,
}

impl<'a> Extents<'a> for Host<'a> {
    fn builder(&mut self) -> &mut FunctionBuilder<'a> {
        &mut self.b
    }

    fn runtime(&mut self, atom: &Name) -> Value {
        self.extent(atom.as_str())
    }
}

impl Host<'_> {
    fn steps(&mut self, steps: &[Step]) {
        let is_launch = |it: &Step| matches!(it, Step::Launch(_));
        for steps in steps.chunk_by(|a, b| is_launch(a) && is_launch(b)) {
            match &steps[0] {
                Step::Launch(_) => self.launches(steps),
                Step::Barrier => {
                    let barrier = self.frame_word(frame::BARRIER);
                    self.b.ins().call_indirect(self.barrier, barrier, &[self.frame, self.thread]);
                }
                Step::Loop { id, axis, reverse, steps } => self.repeat(*id, axis, *reverse, steps),
            }
        }
    }

    /// Pieces of launches, one after the other, for as long as there are any.
    fn launches(&mut self, launches: &[Step]) {
        let [head, after] = [(); 2].map(|()| self.b.create_block());
        let before = self.b.use_var(self.drawn);
        let own = self.b.append_block_param(head, I64);
        self.b.ins().jump(head, &[self.thread.into()]);
        self.b.switch_to_block(head);
        let mut piece = self.draw(before, own);
        let next_own = self.b.ins().iadd(own, self.threads);
        for step in launches {
            let Step::Launch(launch) = step else { unreachable!("launches alone") };
            let [this, next] = [(); 2].map(|()| self.b.create_block());
            let is_this = self.b.ins().icmp(IntCC::UnsignedLessThan, piece, self.pieces);
            self.b.ins().brif(is_this, this, &[], next, &[]);
            self.b.switch_to_block(this);
            self.launch(launch, piece);
            self.b.ins().jump(head, &[next_own.into()]);
            self.b.switch_to_block(next);
            piece = self.b.ins().isub(piece, self.pieces);
        }
        self.b.ins().jump(after, &[]);
        self.b.switch_to_block(after);
        let launches = self.int(launches.len() as i64);
        let all = self.b.ins().imul(launches, self.pieces);
        let all = self.b.ins().iadd(all, self.threads);
        let drawn = self.b.ins().iadd(before, all);
        self.b.def_var(self.drawn, drawn);
    }

    /// The next piece, which may be beyond the last. Each is drawn as a ticket, of which each
    /// thread draws one too many. Where there are no more pieces of a launch than threads, each
    /// takes its `own`, since a ticket takes a while to come from another core.
    fn draw(&mut self, before: Value, own: Value) -> Value {
        let [ticket, chosen] = [(); 2].map(|()| self.b.create_block());
        let piece = self.b.append_block_param(chosen, I64);
        let are_own = self.b.ins().icmp(IntCC::Equal, self.pieces, self.threads);
        self.b.ins().brif(are_own, chosen, &[own.into()], ticket, &[]);
        self.b.switch_to_block(ticket);
        let (tickets, one) = (self.frame_word(frame::TICKETS), self.int(1));
        let flags = MemFlagsData::trusted();
        let drawn = self.b.ins().atomic_rmw(I64, flags, AtomicRmwOp::Add, tickets, one);
        let drawn = self.b.ins().isub(drawn, before);
        self.b.ins().jump(chosen, &[drawn.into()]);
        self.b.switch_to_block(chosen);
        piece
    }

    fn repeat(&mut self, id: usize, axis: &Axis, reverse: bool, steps: &[Step]) {
        let size = self.size(std::slice::from_ref(axis));
        let [head, inside, after] = [(); 3].map(|()| self.b.create_block());
        let i = self.b.append_block_param(head, I64);
        let zero = self.int(0);
        self.b.ins().jump(head, &[zero.into()]);
        self.b.switch_to_block(head);
        let more = self.b.ins().icmp(IntCC::SignedLessThan, i, size);
        self.b.ins().brif(more, inside, &[], after, &[]);
        self.b.switch_to_block(inside);
        let one = self.int(1);
        let next = self.b.ins().iadd(i, one);
        let place = if reverse { self.b.ins().isub(size, next) } else { i };
        self.counters.insert(id, place);
        self.steps(steps);
        self.b.ins().jump(head, &[next.into()]);
        self.b.switch_to_block(after);
    }

    fn launch(&mut self, launch: &Launch, piece: Value) {
        for (at, word) in (0..).step_by(8).zip(&launch.words) {
            let value = self.word(word);
            self.b.ins().store(MemFlagsData::trusted(), value, self.words, at);
        }
        let arguments = [self.words, piece, self.pieces];
        match launch.callee {
            Callee::Kernel(i) => {
                let kernel = self.kernel_address(i);
                self.b.ins().call_indirect(self.kernel, kernel, &arguments);
            }
            Callee::Loop(i) => {
                let function = self.generated(i);
                self.b.ins().call(function, &arguments);
            }
        }
    }

    /// Loop `i` as something to call or to take the address of.
    fn generated(&mut self, i: usize) -> FuncRef {
        let name = UserExternalName { namespace: 0, index: i as u32 };
        let name = self.b.func.declare_imported_user_function(name);
        self.b.import_function(ExtFuncData {
            name: ExternalName::user(name),
            signature: self.kernel,
            colocated: true,
            patchable: false,
        })
    }

    fn word(&mut self, word: &Word) -> Value {
        match word {
            Word::Address(place) => self.address(place),
            Word::Format(place) => {
                let entry = self.weight_entry(place);
                self.b.ins().load(I64, MemFlagsData::trusted(), entry, 8)
            }
            Word::Size(axes) => self.size(axes),
            Word::Bits(bits) => self.int(*bits as i64),
            Word::Helper(i) => self.kernel_address(*i),
            Word::Code(i) => {
                let function = self.generated(*i);
                self.b.ins().func_addr(I64, function)
            }
            Word::Scratch => {
                let first = self.frame_word(frame::SCRATCH);
                let stride = self.frame_word(frame::SCRATCH_STRIDE);
                let offset = self.b.ins().imul(self.thread, stride);
                self.b.ins().iadd(first, offset)
            }
        }
    }

    fn address(&mut self, place: &Place) -> Value {
        let mut address = match &place.base {
            Base::Arena(i) => self.beyond(frame::ARENA, self.plan.buffers[*i].offset),
            Base::Constant(at) => self.beyond(frame::CONSTANTS, *at),
            Base::Weight(..) => {
                let entry = self.weight_entry(place);
                self.b.ins().load(I64, MemFlagsData::trusted(), entry, 0)
            }
            Base::State(i) => self.listed(frame::STATES, *i),
            Base::Input(i) => self.listed(frame::INPUTS, *i),
            Base::Output(i) => self.listed(frame::OUTPUTS, *i),
        };
        for term in &place.terms {
            let index = self.counter(&term.index);
            let stride = self.stride(&term.stride);
            let bytes = self.b.ins().imul(index, stride);
            address = self.b.ins().iadd(address, bytes);
        }
        address
    }

    fn counter(&mut self, counter: &Counter) -> Value {
        match counter {
            Counter::Loop(id) => self.counters[id],
            Counter::Extent(name) => self.extent(name.as_str()),
            Counter::Fixed(at) => self.int(*at as i64),
        }
    }

    fn stride(&mut self, stride: &Stride) -> Value {
        match stride {
            Stride::Elements(bytes, axes) => {
                let (bytes, elements) = (self.int(*bytes as i64), self.size(axes));
                self.b.ins().imul(bytes, elements)
            }
            Stride::Bank(state) => {
                let state = &self.plan.states[*state];
                let (fixed, each) = (state.fixed_bytes as i64, state.position_bytes as i64);
                let capacity = self.extent(plan::CAPACITY);
                let each = self.int(each);
                let grown = self.b.ins().imul(capacity, each);
                let fixed = self.int(fixed);
                self.b.ins().iadd(grown, fixed)
            }
        }
    }

    /// The address of a weight's entry.
    fn weight_entry(&mut self, place: &Place) -> Value {
        let Base::Weight(bank, layer) = &place.base else {
            unreachable!("only weights have formats")
        };
        let table = self.frame_word(frame::WEIGHTS);
        let first = self.int(self.plan.banks[*bank].first as i64 * WEIGHT_REF);
        let mut entry = self.b.ins().iadd(table, first);
        if let Some(layer) = layer {
            let (layer, size) = (self.counter(layer), self.int(WEIGHT_REF));
            let offset = self.b.ins().imul(layer, size);
            entry = self.b.ins().iadd(entry, offset);
        }
        entry
    }

    fn size(&mut self, axes: &[Axis]) -> Value {
        let mut product = self.int(1);
        for axis in axes {
            let size = self.extent_of(&self.module.axes, axis);
            product = self.b.ins().imul(product, size);
        }
        product
    }

    fn extent(&mut self, name: &str) -> Value {
        let at = self.plan.extents.iter().position(|it| *it == name).expect("a run-time extent");
        self.listed(frame::EXTENTS, at)
    }

    fn kernel_address(&mut self, i: usize) -> Value {
        self.listed(frame::KERNELS, i)
    }

    /// Entry `i` of a table of the frame.
    fn listed(&mut self, table: i32, i: usize) -> Value {
        let table = self.frame_word(table);
        self.b.ins().load(I64, MemFlagsData::trusted(), table, 8 * i as i32)
    }

    /// So many bytes into a memory of the frame.
    fn beyond(&mut self, memory: i32, offset: u64) -> Value {
        let (memory, offset) = (self.frame_word(memory), self.int(offset as i64));
        self.b.ins().iadd(memory, offset)
    }

    fn frame_word(&mut self, offset: i32) -> Value {
        self.b.ins().load(I64, MemFlagsData::trusted().with_readonly(), self.frame, offset)
    }

    fn int(&mut self, value: i64) -> Value {
        self.b.ins().iconst(I64, value)
    }
}
