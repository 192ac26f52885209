//! A cohort is its members side by side: each with the logits, the penalty, and the parameters it has alone.

use mnemoscope_engine::testing::check_close;
use mnemoscope_model::optim::Stride;

use super::*;

const N_MEMBERS: usize = 3;

fn queries() -> [QueryRows; 2] {
    let one = [(0, 3), (0, 11), (1, 0), (1, 7)];
    let all = (0..N_MEMBERS as u32)
        .flat_map(|member| one.map(|(example, pos)| (2 * member + example, pos)))
        .collect();
    [QueryRows::new(N_POS, one.to_vec()), QueryRows::new(N_POS, all)]
}

/// Steps of models of a spec, alone or together; what the rule and the clipping of each are differs.
struct Steps<'s> {
    spec: &'s ModelSpec,
    rules: [Rule; N_MEMBERS],
    regularised: bool,
}

impl Steps<'_> {
    fn start(&self, member: usize) -> Model<CpuAutodiff> {
        let stream = Stream::root(member as u64).derive("model");
        // What is drawn as zeros or ones differs as well.
        let mut params = Model::<Cpu>::init(self.spec, &stream, &cpu()).params();
        for name in params.names().map(str::to_owned).collect::<Vec<_>>() {
            let Array { shape, mut data } = params.remove(&name).unwrap();
            data.iter_mut().for_each(|x| *x += 0.01 * (1.0 + member as f32));
            params.insert(name, Array { shape, data });
        }
        Model::from_params(self.spec, params, &cpu()).unwrap()
    }

    fn strides(&self) -> [Stride; N_MEMBERS] {
        let clip = [None, Some(0.1), Some(50.0)];
        [0, 1, 2].map(|member| Stride { rule: self.rules[member], clip_norm: clip[member] })
    }

    /// Losses of members `first..first + n` before a step, and their penalties.
    fn losses(
        &self,
        model: &Model<CpuAutodiff>,
        first: usize,
        n: usize,
        step: u64,
    ) -> Tensor<CpuAutodiff, 1> {
        let [one, all] = queries();
        let from = step * 6 + 2 * first as u64;
        let tokens = tensor(&examples(from..from + 2 * n as u64), &cpu());
        let queries = if n == 1 { &one } else { &all };
        let (logits, penalty) = match self.spec {
            ModelSpec::Transformer(_) if self.regularised => {
                let dropout = DropoutRates { attn: 0.1, mlp: 0.2, resid: 0.1, embed: 0.1 };
                let of_member = |member| Stream::root(member as u64).derive("dropout");
                let streams: Vec<Stream> = (first..first + n).map(of_member).collect();
                let sharpen = Some((Bluntness::Entropy, &[0_usize, 1][..]));
                model.regularised_logits(
                    tokens,
                    queries,
                    &Regularisation {
                        dropout,
                        streams: &streams,
                        step,
                        sharpen,
                        asked_rows: false,
                    },
                )
            }
            _ => (model.logits(tokens, queries, &mut NoHooks), None),
        };
        let answers: Vec<i32> = (0..4 * n as i32).map(|i| (i % 4 + step as i32) % 5).collect();
        let answers = Tensor::from_data(answers.as_slice(), &cpu());
        let weights = Tensor::from_data(vec![0.25_f32; 4 * n].as_slice(), &cpu());
        let losses = CpuAutodiff::weighted_losses(logits, answers, weights);
        let losses = losses.reshape([n, 4]).sum_dim(1).reshape([n]);
        match penalty {
            Some(penalty) => losses + penalty.mul_scalar(0.1),
            None => losses,
        }
    }

    /// Losses and, after three steps, all numbers of the members that are trained side by side.
    fn run(&self, first: usize, n: usize) -> Vec<(Vec<f32>, Tensors, Tensors)> {
        let starts: Vec<Tensors> =
            (0..n).map(|member| self.start(first + member).params()).collect();
        let mut model = match n {
            1 => self.start(first),
            _ => Model::cohort(self.spec, &starts, &cpu()).unwrap(),
        };
        let mut state = OptimState::new(&self.rules[0]);
        let mut losses = vec![Vec::new(); n];
        for step in 0..3 {
            // Members come and go between two steps.
            if step == 2 && n > 1 {
                let alone =
                    |tensors: &Tensors| OptimState::from_tensors(&self.rules[0], tensors, &cpu());
                let states: Result<Vec<_>, _> =
                    state.to_tensors_each(n).iter().map(alone).collect();
                state = OptimState::stack(&states.unwrap());
                model = Model::cohort(self.spec, &model.params().split(n), &cpu()).unwrap();
            }
            let loss = self.losses(&model, first, n, step);
            let here = loss.clone().into_data().into_vec::<f32>().unwrap();
            losses.iter_mut().zip(here).for_each(|(losses, loss)| losses.push(loss));
            let strides = &self.strides()[first..first + n];
            for end in state.step_each(&mut model, loss.sum().backward(), strides) {
                end.unwrap();
            }
        }
        let params = model.params().split(n);
        let states = state.to_tensors_each(n);
        losses.into_iter().zip(params).zip(states).map(|((l, p), s)| (l, p, s)).collect()
    }

    fn check(&self) {
        let together = self.run(0, N_MEMBERS);
        for (member, (losses, params, state)) in together.into_iter().enumerate() {
            let (alone, alone_params, alone_state) = self.run(member, 1).pop().unwrap();
            check_close("losses", &losses, &alone, 1e-5);
            for (got, expected) in [(&params, &alone_params), (&state, &alone_state)] {
                assert!(got.names().eq(expected.names()));
                for ((name, got), (_, expected)) in got.iter().zip(expected.iter()) {
                    assert_eq!(got.shape, expected.shape, "{name}");
                    check_close(name, &got.data, &expected.data, 2e-4);
                }
            }
        }
    }
}

#[test]
fn members_of_a_cohort_train_as_they_do_alone() {
    let interventions = interventions().into_iter().map(ModelSpec::Transformer);
    let specs = specs().into_iter().chain(interventions).filter(ModelSpec::may_be_in_cohort);
    for (i, spec) in specs.enumerate() {
        let sgd = |lr: f64| Rule::Sgd(Sgd { lr, ..SGD });
        let rules = match i % 2 {
            0 => [sgd(0.1), sgd(0.03), sgd(0.2)],
            _ => [adamw(1e-3), adamw(3e-3), adamw(1e-4)],
        };
        let regularised = match &spec {
            ModelSpec::Transformer(spec) => spec.n_layers > 1,
            _ => false,
        };
        Steps { spec: &spec, rules, regularised }.check();
    }
}

#[test]
fn what_one_member_does_wrong_is_named_and_does_not_touch_the_others() {
    let spec = &specs()[0];
    let steps = Steps { spec, rules: [Rule::Sgd(SGD); N_MEMBERS], regularised: false };
    let params = [0, 1, 2].map(|member| steps.start(member).params());
    let after = |factor: f32| {
        let mut model = Model::<CpuAutodiff>::cohort(spec, &params, &cpu()).unwrap();
        let losses = steps.losses(&model, 0, N_MEMBERS, 0);
        let factors = Tensor::from_data([1.0, factor, 1.0], &cpu());
        let mut state = OptimState::new(&steps.rules[0]);
        let grads = (losses * factors).sum().backward();
        let ends = state.step_each(&mut model, grads, &steps.strides());
        (ends, model.params().split(N_MEMBERS))
    };
    let ((good, expected), (bad, got)) = (after(1.0), after(f32::NAN));
    assert!(good.iter().all(Result::is_ok));
    assert!(bad[0].is_ok() && bad[2].is_ok());
    let why = bad[1].as_ref().unwrap_err().to_string();
    assert!(why.contains("the gradient of `unembed."), "{why}");
    assert_eq!([&got[0], &got[2]], [&expected[0], &expected[2]]);
}

#[test]
fn a_model_of_memories_is_refused_as_a_member() {
    let memories = specs().into_iter().find(|spec| !spec.may_be_in_cohort()).unwrap();
    let member = init::<Cpu>(&memories).params();
    let why = Model::<Cpu>::cohort(&memories, &[member.clone(), member], &cpu()).unwrap_err();
    assert!(why.to_string().contains("associative models do not train in cohorts"), "{why}");
}
