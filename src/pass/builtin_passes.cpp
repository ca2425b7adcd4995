// The one visible list of passes.
#include <cstdlib>

#include "passes/passes.h"

namespace mcompress {

const PassRegistry& builtin_passes() {
  static const PassRegistry kRegistry = [] {
    PassRegistry registry;
    for (PassInfo (*info)() : {awq_info,
                               cast_float16_info,
                               compress_tables_info,
                               cluster_weights_info,
                               convert_opset_info,
                               dedup_initializers_info,
                               drop_nan_guards_info,
                               eliminate_dead_info,
                               eliminate_duplicates_info,
                               eliminate_identity_info,
                               equalize_info,
                               factorize_weights_info,
                               fold_constants_info,
                               fold_control_flow_info,
                               fold_shapes_info,
                               fuse_activation_info,
                               fuse_affine_info,
                               fuse_batchnorm_info,
                               fuse_contrib_info,
                               fuse_conv_chain_info,
                               fuse_gelu_info,
                               fuse_hard_swish_info,
                               fuse_layer_norm_info,
                               fuse_matmul_add_info,
                               fuse_mish_info,
                               fuse_norm_scale_info,
                               fuse_pad_info,
                               fuse_parallel_conv_info,
                               fuse_quantized_info,
                               fuse_reshape_gemm_info,
                               fuse_residual_bias_info,
                               fuse_rms_norm_info,
                               fuse_swish_info,
                               fuse_transpose_gemm_info,
                               infer_shapes_info,
                               inline_functions_info,
                               lift_constants_info,
                               lower_group_norm_info,
                               merge_casts_info,
                               merge_reshapes_info,
                               merge_slices_info,
                               merge_transposes_info,
                               pack_weights_info,
                               pin_inputs_info,
                               prune_blocks_info,
                               prune_weights_info,
                               push_transposes_info,
                               prune_channels_info,
                               quantize_blocks_info,
                               quantize_dynamic_info,
                               quantize_static_info,
                               quantize_weights_info,
                               raise_opset_info,
                               rdoq_weights_info,
                               simplify_arithmetic_info,
                               simplify_gathers_info,
                               simplify_recurrent_info,
                               simplify_unit_axes_info,
                               smooth_info}) {
      if (!registry.add(info()).ok()) std::abort();  // two passes of one name: a broken build
    }
    return registry;
  }();
  return kRegistry;
}

}  // namespace mcompress
