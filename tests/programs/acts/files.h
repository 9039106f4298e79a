#pragma once
#define FILE_ACTS
