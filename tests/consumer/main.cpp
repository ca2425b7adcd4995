#include <mcompress/version.h>

#include <iostream>

int main() { std::cout << mcompress::kVersion << '\n'; }
