// Everything public.
#pragma once

#include "mcompress/calibration.h"
#include "mcompress/dtype.h"
#include "mcompress/edit.h"
#include "mcompress/evaluate.h"
#include "mcompress/host.h"
#include "mcompress/io.h"
#include "mcompress/ir.h"
#include "mcompress/options.h"
#include "mcompress/pass.h"
#include "mcompress/pipeline.h"
#include "mcompress/report.h"
#include "mcompress/runtime.h"
#include "mcompress/status.h"
#include "mcompress/target.h"
#include "mcompress/tensor.h"
#include "mcompress/version.h"
