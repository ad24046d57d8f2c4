include(${CMAKE_CURRENT_LIST_DIR}/keybroker-targets.cmake)
