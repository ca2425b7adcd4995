// The passes of this folder: one file each, named like the pass.
#pragma once

#include "mcompress/pass.h"

namespace mcompress {

PassInfo dedup_initializers_info();
PassInfo eliminate_dead_info();
PassInfo eliminate_duplicates_info();
PassInfo eliminate_identity_info();
PassInfo fold_constants_info();
PassInfo fuse_activation_info();
PassInfo fuse_affine_info();
PassInfo fuse_batchnorm_info();
PassInfo fuse_gelu_info();
PassInfo fuse_hard_swish_info();
PassInfo fuse_layer_norm_info();
PassInfo fuse_matmul_add_info();
PassInfo fuse_mish_info();
PassInfo fuse_pad_info();
PassInfo fuse_rms_norm_info();
PassInfo fuse_swish_info();
PassInfo infer_shapes_info();
PassInfo lift_constants_info();
PassInfo quantize_dynamic_info();
PassInfo quantize_static_info();
PassInfo quantize_weights_info();
PassInfo raise_opset_info();

}  // namespace mcompress
