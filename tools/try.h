// Early return for Result and Status.
#pragma once

#include <utility>

#include "mcompress/status.h"

#define MCOMPRESS_CONCAT_INNER(a, b) a##b
#define MCOMPRESS_CONCAT(a, b) MCOMPRESS_CONCAT_INNER(a, b)

#define MCOMPRESS_TRY(expression)                                                   \
  do {                                                                              \
    auto mcompress_try_result = (expression);                                       \
    if (!mcompress_try_result.ok()) return std::move(mcompress_try_result).error(); \
  } while (false)

#define MCOMPRESS_ASSIGN(target, expression) \
  MCOMPRESS_ASSIGN_INNER(MCOMPRESS_CONCAT(mcompress_result_, __LINE__), target, expression)
#define MCOMPRESS_ASSIGN_INNER(temporary, target, expression) \
  auto temporary = (expression);                              \
  if (!temporary.ok()) return std::move(temporary).error();   \
  target = std::move(temporary).value()
