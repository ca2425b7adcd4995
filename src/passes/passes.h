// The passes of this folder: one file each, named like the pass.
#pragma once

#include "mcompress/pass.h"

namespace mcompress {

PassInfo awq_info();
PassInfo cast_float16_info();
PassInfo compress_tables_info();
PassInfo convert_opset_info();
PassInfo dedup_initializers_info();
PassInfo drop_nan_guards_info();
PassInfo eliminate_dead_info();
PassInfo eliminate_duplicates_info();
PassInfo eliminate_identity_info();
PassInfo equalize_info();
PassInfo factorize_weights_info();
PassInfo fold_constants_info();
PassInfo fold_control_flow_info();
PassInfo fold_shapes_info();
PassInfo fuse_activation_info();
PassInfo fuse_affine_info();
PassInfo fuse_batchnorm_info();
PassInfo fuse_contrib_info();
PassInfo fuse_conv_chain_info();
PassInfo fuse_gelu_info();
PassInfo fuse_hard_swish_info();
PassInfo fuse_layer_norm_info();
PassInfo fuse_matmul_add_info();
PassInfo fuse_mish_info();
PassInfo fuse_norm_scale_info();
PassInfo fuse_pad_info();
PassInfo fuse_parallel_conv_info();
PassInfo fuse_quantized_info();
PassInfo fuse_reshape_gemm_info();
PassInfo fuse_residual_bias_info();
PassInfo fuse_rms_norm_info();
PassInfo fuse_swish_info();
PassInfo fuse_transpose_gemm_info();
PassInfo infer_shapes_info();
PassInfo inline_functions_info();
PassInfo lift_constants_info();
PassInfo lower_group_norm_info();
PassInfo merge_casts_info();
PassInfo merge_reshapes_info();
PassInfo merge_slices_info();
PassInfo merge_transposes_info();
PassInfo pack_weights_info();
PassInfo pin_inputs_info();
PassInfo prune_blocks_info();
PassInfo prune_weights_info();
PassInfo push_transposes_info();
PassInfo prune_channels_info();
PassInfo cluster_weights_info();
PassInfo quantize_blocks_info();
PassInfo quantize_dynamic_info();
PassInfo quantize_static_info();
PassInfo quantize_weights_info();
PassInfo raise_opset_info();
PassInfo rdoq_weights_info();
PassInfo simplify_arithmetic_info();
PassInfo simplify_gathers_info();
PassInfo simplify_recurrent_info();
PassInfo simplify_unit_axes_info();
PassInfo smooth_info();

}  // namespace mcompress
