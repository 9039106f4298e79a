#pragma once
#define TASK_ACTS
