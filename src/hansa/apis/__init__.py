"""The words of the system: contracts that users implement, values that they exchange, and the pure task board.

Nothing here reads a file, opens a socket or starts a thread. Modules bear FLARE 2.0's names.

::

    the message      shareable, dxo, analytix, byte_form
    the context      fl_context, fl_constant, event_type, app_constant, app_event_type, log_message
    at a site        executor, learner_spec, filter, client_engine_spec
    on the server    controller_spec, controller, responder, task_manager and the managers beside it,
                     aggregator, learnable, model, shareable_generator, persistors, locators, formatter,
                     response_processor, client, server_engine_spec
    everywhere       fl_component, widget, signal, workspace, aux_spec, fl_exception, engine (the runtime's ports)
    provisioning     app_validation, format_check

Import from the modules; this package loads none of them by itself.
"""
