#include "option_section.h"

namespace ringtrain {

void add_optimizer_options(std::vector<Option>& table) {
  const std::string group = "Optimizer";
  OptionSection<&TrainConfig::optimizer> optimizer(table, "optimizer.", group, kTraining);
  optimizer.add<&OptimizerConfig::type>("type", "which of the two below").choices = {"adamw",
                                                                                     "palm"};
  optimizer.add<&OptimizerConfig::accumulate_gradient_steps>("accumulate_gradient_steps",
                                                             "micro-batches of one update");

  OptionSection<> memory(table, "", group, static_cast<unsigned>(Command::kTrain));
  memory.add<&TrainConfig::offload_optimizer>(
      "offload_optimizer", "keep fp32 parameters and moments in host memory; updates stream them");
  memory
      .add<&TrainConfig::grad_dtype>("grad_dtype",
                                     "type in which gradients are kept between micro-batches")
      .choices = {"fp32", "bf16"};

  using A = AdamWConfig;
  OptionSection<&TrainConfig::optimizer, &OptimizerConfig::adamw_optimizer> adamw(
      table, "optimizer.adamw_optimizer.", group, kTraining);
  adamw.add<&A::init_lr>("init_lr", "learning rate of step 0, before the warm-up");
  adamw.add<&A::end_lr>("end_lr", "learning rate after the cosine decay");
  adamw.add<&A::lr>("lr", "peak learning rate, after the warm-up");
  adamw.add<&A::lr_warmup_steps>("lr_warmup_steps", "updates of linear warm-up");
  adamw.add<&A::lr_decay_steps>("lr_decay_steps", "updates until end_lr, warm-up included");
  adamw.add<&A::b1>("b1", "decay of the first moment");
  adamw.add<&A::b2>("b2", "decay of the second moment");
  adamw.add<&A::clip_gradient>("clip_gradient", "largest global norm of the gradient");
  adamw.add<&A::weight_decay>("weight_decay", "decoupled, on every parameter");
  adamw.add<&A::bf16_momentum>("bf16_momentum", "store the first moment in bf16");
  adamw.add<&A::multiply_by_parameter_scale>("multiply_by_parameter_scale", "the Adafactor form");

  using P = PalmConfig;
  OptionSection<&TrainConfig::optimizer, &OptimizerConfig::palm_optimizer> palm(
      table, "optimizer.palm_optimizer.", group, kTraining);
  palm.add<&P::lr>("lr", "0.01 gives a rate of 1 / sqrt(max(step, lr_warmup_steps))");
  palm.add<&P::lr_warmup_steps>("lr_warmup_steps", "updates at the first rate");
  palm.add<&P::b1>("b1", "decay of the momentum");
  palm.add<&P::b2>("b2", "decay of the second moment");
  palm.add<&P::clip_gradient>("clip_gradient", "largest global norm of the gradient");
  palm.add<&P::weight_decay>("weight_decay", "1e-4 decays by the squared rate, on every parameter");
  palm.add<&P::bf16_momentum>("bf16_momentum", "store the momentum in bf16");
}

}  // namespace ringtrain
