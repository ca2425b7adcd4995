// The one visible list of passes.
#include <cstdlib>

#include "passes/passes.h"

namespace mcompress {

const PassRegistry& builtin_passes() {
  static const PassRegistry kRegistry = [] {
    PassRegistry registry;
    for (PassInfo (*info)() :
         {dedup_initializers_info, eliminate_dead_info,  eliminate_duplicates_info,
          eliminate_identity_info, fold_constants_info,  fuse_activation_info,
          fuse_affine_info,        fuse_batchnorm_info,  fuse_gelu_info,
          fuse_hard_swish_info,    fuse_layer_norm_info, fuse_matmul_add_info,
          fuse_mish_info,          fuse_pad_info,        fuse_rms_norm_info,
          fuse_swish_info,         infer_shapes_info,    lift_constants_info,
          quantize_dynamic_info,   quantize_static_info, quantize_weights_info,
          raise_opset_info}) {
      if (!registry.add(info()).ok()) std::abort();  // two passes of one name: a broken build
    }
    return registry;
  }();
  return kRegistry;
}

}  // namespace mcompress
