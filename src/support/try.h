// Early return for Result and Status. The temporary keeps the error until it is moved out.
#pragma once

#include "mcompress/status.h"

#define MCOMPRESS_CONCAT_INNER(a, b) a##b
#define MCOMPRESS_CONCAT(a, b) MCOMPRESS_CONCAT_INNER(a, b)

// MCOMPRESS_TRY(expression_returning_status_or_result);
#define MCOMPRESS_TRY(expression)                     \
  do {                                                \
    auto mcompress_try_result = (expression);         \
    if (!mcompress_try_result.ok()) {                 \
      return std::move(mcompress_try_result).error(); \
    }                                                 \
  } while (false)

// MCOMPRESS_ASSIGN(auto x, expression_returning_result);
#define MCOMPRESS_ASSIGN(target, expression) \
  MCOMPRESS_ASSIGN_INNER(MCOMPRESS_CONCAT(mcompress_result_, __LINE__), target, expression)
#define MCOMPRESS_ASSIGN_INNER(temporary, target, expression) \
  auto temporary = (expression);                              \
  if (!temporary.ok()) {                                      \
    return std::move(temporary).error();                      \
  }                                                           \
  target = std::move(temporary).value()
